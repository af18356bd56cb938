// Experts beside a dense feed-forward, as Gemma 4 has them, against the same layer written out here: no golden case of
// the archive has them, and the made ones (tests/reference) run with `make check-all` only.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "base/json.h"
#include "unit/model_files.h"
#include "unit/model_harness.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using Vector = std::vector<double>;

constexpr size_t kHidden = 8, kVocab = 16, kDense = 6, kExperts = 4, kTopK = 2, kExpert = 3;
constexpr double kEps = 0.05, kLayerScale = 0.7;

// One layer whose attention gives nothing.
constexpr const char* kConfig = R"({
  "architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text", "hidden_size": 8, "vocab_size": 16,
  "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 6,
  "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 3, "rms_norm_eps": 0.05,
  "hidden_activation": "gelu_pytorch_tanh", "hidden_size_per_layer_input": 0, "layer_types": ["full_attention"],
  "max_position_embeddings": 64, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0}},
  "tie_word_embeddings": true})";

/// Random f32 tensors by name, and the file of them.
class Weights {
 public:
  void add(const std::string& name, const std::vector<size_t>& shape, float mean, float deviation) {
    const size_t count = std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies());
    std::normal_distribution<float> normal;
    std::vector<float>& values = values_[name];
    for (size_t i = 0; i < count; ++i) values.push_back(mean + deviation * normal(random_));
    const size_t begin = data_.size();
    for (const float v : values) data_ += test::raw(v);
    header_[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }
  const float* operator[](const std::string& name) const { return values_.at(name).data(); }
  std::string file() const { return test::safetensors_file(header_.dump(), data_); }

 private:
  std::mt19937 random_{5};
  std::map<std::string, std::vector<float>> values_;
  Json header_;
  std::string data_;
};

Weights random_weights() {
  Weights w;
  w.add("model.embed_tokens.weight", {kVocab, kHidden}, 0, 0.7f);
  w.add("model.norm.weight", {kHidden}, 1, 0.3f);
  const std::string layer = "model.layers.0.";
  for (const char* norm : {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
                           "post_feedforward_layernorm", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_1",
                           "post_feedforward_layernorm_2", "self_attn.q_norm", "self_attn.k_norm"}) {
    w.add(layer + norm + ".weight", {kHidden}, 1, 0.5f);
  }
  for (const char* matrix : {"q", "k", "v"})
    w.add(layer + "self_attn." + matrix + "_proj.weight", {kHidden, kHidden}, 0, 1);
  w.add(layer + "self_attn.o_proj.weight", {kHidden, kHidden}, 0, 0);
  w.add(layer + "mlp.gate_proj.weight", {kDense, kHidden}, 0, 0.5f);
  w.add(layer + "mlp.up_proj.weight", {kDense, kHidden}, 0, 0.5f);
  w.add(layer + "mlp.down_proj.weight", {kHidden, kDense}, 0, 0.5f);
  w.add(layer + "router.proj.weight", {kExperts, kHidden}, 0, 2);
  w.add(layer + "router.scale", {kHidden}, 1, 0.5f);
  w.add(layer + "router.per_expert_scale", {kExperts}, 1, 0.5f);
  w.add(layer + "experts.gate_up_proj", {kExperts, 2 * kExpert, kHidden}, 0, 0.5f);
  w.add(layer + "experts.down_proj", {kExperts, kHidden, kExpert}, 0, 0.5f);
  w.add(layer + "layer_scalar", {1}, static_cast<float>(kLayerScale), 0);
  return w;
}

Vector norm(const Vector& x, const float* weight) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  Vector out;
  for (size_t i = 0; i < x.size(); ++i) {
    out.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + kEps) * weight[i]);
  }
  return out;
}

Vector times(const float* matrix, size_t rows, const Vector& x) {
  Vector out(rows);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t i = 0; i < x.size(); ++i) out[r] += matrix[r * x.size() + i] * x[i];
  }
  return out;
}

void add(Vector& to, double factor, const Vector& x) {
  for (size_t i = 0; i < x.size(); ++i) to[i] += factor * x[i];
}

Vector feed_forward(const float* gate, const float* up, const float* down, size_t width, const Vector& x) {
  Vector active = times(gate, width, x);
  const Vector other = times(up, width, x);
  for (size_t i = 0; i < width; ++i) {
    const double g = active[i], inner = std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g);
    active[i] = 0.5 * g * (1 + std::tanh(inner)) * other[i];
  }
  return times(down, x.size(), active);
}

Vector routed(const Weights& w, const std::string& layer, const Vector& x) {
  Vector scores = times(w[layer + "router.proj.weight"], kExperts, norm(x, w[layer + "router.scale"]));
  for (double& s : scores) s = std::exp(s / std::sqrt(static_cast<double>(kHidden)));
  std::vector<size_t> order(kExperts);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  double total = 0;
  for (size_t i = 0; i < kTopK; ++i) total += scores[order[i]];
  const Vector read = norm(x, w[layer + "pre_feedforward_layernorm_2.weight"]);
  Vector sum(kHidden);
  for (size_t i = 0; i < kTopK; ++i) {
    const size_t e = order[i];
    const float* gate = w[layer + "experts.gate_up_proj"] + e * 2 * kExpert * kHidden;
    const float* down = w[layer + "experts.down_proj"] + e * kHidden * kExpert;
    const double weight = scores[e] / total * w[layer + "router.per_expert_scale"][e];
    add(sum, weight, feed_forward(gate, gate + kExpert * kHidden, down, kExpert, read));
  }
  return sum;
}

// The logits after one token; what stands before it changes nothing.
Vector expected(const Weights& w, size_t token) {
  const std::string layer = "model.layers.0.";
  const float* table = w["model.embed_tokens.weight"];
  Vector x(table + token * kHidden, table + (token + 1) * kHidden);
  for (double& v : x) v *= std::sqrt(static_cast<double>(kHidden));
  const Vector dense =
      feed_forward(w[layer + "mlp.gate_proj.weight"], w[layer + "mlp.up_proj.weight"],
                   w[layer + "mlp.down_proj.weight"], kDense, norm(x, w[layer + "pre_feedforward_layernorm.weight"]));
  Vector sum = norm(dense, w[layer + "post_feedforward_layernorm_1.weight"]);
  add(sum, 1, norm(routed(w, layer, x), w[layer + "post_feedforward_layernorm_2.weight"]));
  add(x, 1, norm(sum, w[layer + "post_feedforward_layernorm.weight"]));
  for (double& v : x) v *= kLayerScale;
  return times(table, kVocab, norm(x, w["model.norm.weight"]));
}

TEST(Experts, BesideADenseFeedForwardGiveWhatIsWrittenOut) {
  const Weights weights = random_weights();
  const test::TempFolder folder;
  folder.write("config.json", kConfig);
  folder.write("model.safetensors", weights.file());
  std::vector<Token> ids(kVocab);
  std::iota(ids.begin(), ids.end(), 0);
  for (const auto make : {+[] { return make_ref_backend(); }, +[] { return make_cpu_backend(1); }}) {
    const auto backend = make();
    test::Harness harness(folder.path(), *backend, Compute::kExact, kVocab);
    EXPECT_EQ(parse_spec(print_spec(harness.model().spec)), harness.model().spec);
    const std::vector<float> logits = harness.feed(ids);
    for (size_t token = 0; token < kVocab; ++token) {
      const Vector want = expected(weights, token);
      for (size_t i = 0; i < kVocab; ++i) {
        EXPECT_NEAR(logits[token * kVocab + i], want[i], 2e-4) << backend->info().name << " " << token << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace baize
