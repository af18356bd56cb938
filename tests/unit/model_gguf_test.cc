// The same models by their GGUF spelling: golden cases rewritten as GGUF files the way converters write them (names,
// key spellings, interleaved query and key rows, norms with their 1, rope factors as tensors) give the reference's
// logits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "backend/ref/ref_backend.h"
#include "base/json.h"
#include "base/text.h"
#include "model/rope.h"
#include "ops/dequant.h"
#include "unit/model_files.h"
#include "unit/model_harness.h"

namespace baize {
namespace {

using test::GgufBuilder;

constexpr uint32_t kGgufF32 = 0, kGgufBF16 = 30;

const std::map<std::string, std::string> kTensorNames = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
};

std::string gguf_name(const std::string& hf, bool sandwich) {
  if (hf == "model.embed_tokens.weight") return "token_embd.weight";
  if (hf == "model.norm.weight") return "output_norm.weight";
  if (hf == "lm_head.weight") return "output.weight";
  const size_t layer = std::string("model.layers.").size();
  const size_t name = hf.find('.', layer) + 1, suffix = hf.rfind('.');
  const std::string stem = hf.substr(name, suffix - name);
  const std::string gguf =
      stem == "post_attention_layernorm" ? (sandwich ? "post_attention_norm" : "ffn_norm") : kTensorNames.at(stem);
  return "blk." + hf.substr(layer, name - layer) + gguf + hf.substr(suffix);
}

// Rows of each head from halves (0..h/2 | h/2..h) to pairs (0, h/2, 1, h/2 + 1, ...).
std::string interleave_rows(std::span<const std::byte> bytes, int64_t rows, int64_t head_dim) {
  const int64_t row_bytes = static_cast<int64_t>(bytes.size()) / rows;
  std::string out;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_head = row % head_dim;
    const int64_t from = row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
    out.append(reinterpret_cast<const char*>(bytes.data()) + from * row_bytes, static_cast<size_t>(row_bytes));
  }
  return out;
}

class GgufCopy {
 public:
  GgufCopy(const std::string& name, const std::string& arch)
      : checkpoint_(open_checkpoint(std::string(BAIZE_GOLDENS_DIR) + "/" + name)), arch_(arch) {
    path_ = (std::filesystem::temp_directory_path() / ("baize_gguf_" + std::to_string(getpid()) + "_" + name)).string();
    write_metadata();
    for (const SourceTensor& tensor : checkpoint_->tensors()) add(tensor);
    std::ofstream(path_, std::ios::binary) << builder_.bytes();
  }
  ~GgufCopy() { std::filesystem::remove(path_); }
  GgufCopy(const GgufCopy&) = delete;
  GgufCopy& operator=(const GgufCopy&) = delete;
  const std::string& path() const { return path_; }

 private:
  const Json& config() const { return checkpoint_->metadata(); }
  bool gemma() const { return arch_.starts_with("gemma"); }
  int64_t integer(const char* key) const { return config().at(key).get<int64_t>(); }
  int64_t head_dim() const {
    return config().contains("head_dim") ? integer("head_dim")
                                         : integer("hidden_size") / integer("num_attention_heads");
  }
  std::string key(const std::string& suffix) const { return arch_ + "." + suffix; }

  void write_metadata() {
    builder_.set("general.architecture", arch_);
    const std::pair<const char*, const char*> integers[] = {{"embedding_length", "hidden_size"},
                                                            {"block_count", "num_hidden_layers"},
                                                            {"attention.head_count", "num_attention_heads"},
                                                            {"attention.head_count_kv", "num_key_value_heads"},
                                                            {"feed_forward_length", "intermediate_size"},
                                                            {"context_length", "max_position_embeddings"}};
    for (const auto& [gguf, hf] : integers) builder_.set(key(gguf), static_cast<uint32_t>(integer(hf)));
    builder_.set(key("attention.key_length"), static_cast<uint32_t>(head_dim()));
    builder_.set(key("attention.layer_norm_rms_epsilon"), config().at("rms_norm_eps").get<float>());
    for (const char* cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
      if (config().contains(cap) && config()[cap].is_number()) builder_.set(key(cap), config()[cap].get<float>());
    }
    if (arch_ != "qwen2" && config().contains("sliding_window") && config()["sliding_window"].is_number()) {
      builder_.set(key("attention.sliding_window"), static_cast<uint32_t>(integer("sliding_window")));
    }
    if (gemma() && config().contains("query_pre_attn_scalar")) {
      builder_.set(key("attention.scale"), 1 / std::sqrt(config()["query_pre_attn_scalar"].get<float>()));
    }
    write_rope();
  }

  void write_rope() {
    const ModelSpec spec = make_spec(*checkpoint_);
    const auto& rope = std::get<AttnSpec>(spec.layers[arch_ == "gemma3" ? 1 : 0].sub[0].block).rope;
    builder_.set(key("rope.freq_base"), rope.theta)
        .set(key("rope.dimension_count"), static_cast<uint32_t>(rope.rot_dim));
    if (rope.kind == RopeSpec::Kind::kYarn || rope.kind == RopeSpec::Kind::kLinear) {
      builder_.set(key("rope.scaling.type"), rope.kind == RopeSpec::Kind::kYarn ? "yarn" : "linear");
      builder_.set(key("rope.scaling.factor"), rope.factor);
      builder_.set(key("rope.scaling.original_context_length"), static_cast<uint32_t>(rope.original_length));
    }
    if (rope.kind ==
        RopeSpec::Kind::kFactors) {  // longrope: the long set, as the context asks for, and a wrong short one
      builder_.set(key("rope.scaling.type"), "longrope").set(key("rope.scaling.attn_factor"), rope.attention_factor);
      builder_.set(key("rope.scaling.original_context_length"), static_cast<uint32_t>(rope.original_length));
      add_floats("rope_factors_long.weight", rope.factors);
      add_floats("rope_factors_short.weight", std::vector<float>(rope.factors.size(), 9.0f));
    }
    if (rope.kind == RopeSpec::Kind::kLlama3) {
      RopeSpec plain = rope;
      plain.kind = RopeSpec::Kind::kDefault;
      std::vector<float> divisors = inverse_frequencies(plain);
      const std::vector<float> scaled = inverse_frequencies(rope);
      for (size_t i = 0; i < scaled.size(); ++i) divisors[i] /= scaled[i];
      add_floats("rope_freqs.weight", divisors);
    }
  }

  void add_floats(const std::string& name, const std::vector<float>& values) {
    builder_.tensor(name, {values.size()}, kGgufF32,
                    {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  void add(const SourceTensor& tensor) {
    const std::string name = gguf_name(tensor.name, gemma() && arch_ != "gemma");
    if (tensor.shape.rank() == 1) {
      std::vector<float> values(static_cast<size_t>(tensor.shape[0]));
      dequantize_row(tensor.format, tensor.bytes.data(), tensor.shape[0], values.data());
      if (gemma()) {
        for (float& v : values) v += 1;
      }
      return add_floats(name, values);
    }
    const bool rotated = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
    const std::string bytes =
        arch_ == "llama" && rotated
            ? interleave_rows(tensor.bytes, tensor.shape[0], head_dim())
            : std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    builder_.tensor(name, {static_cast<uint64_t>(tensor.shape[1]), static_cast<uint64_t>(tensor.shape[0])}, kGgufBF16,
                    bytes);
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::string arch_, path_;
  GgufBuilder builder_;
};

class GgufTest : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(GgufTest, GivesTheReferenceLogits) {
  const auto& [name, arch] = GetParam();
  const GgufCopy copy(name, arch);
  const auto backend = make_ref_backend();
  test::Harness harness(copy.path(), *backend, Compute::kExact, 128);
  const Json golden = parse_json(read_file(std::string(BAIZE_GOLDENS_DIR) + "/" + name + "/golden.json"), name);
  const std::vector<Token> ids = golden["input_ids"];
  const std::vector<float> got = harness.feed(ids);
  double difference = 0, power = 0;
  size_t at = 0;
  for (const Json& row : golden["logits"]) {
    for (const Json& value : row) {
      const double want = value.get<double>(), d = static_cast<double>(got[at++]) - want;
      difference += d * d;
      power += want * want;
    }
  }
  EXPECT_EQ(at, got.size());
  EXPECT_LE(difference / power, 1e-6);
}

// Of gemma 3, the case whose layers all have windows: GGUF files know the period of full layers by convention only.
INSTANTIATE_TEST_SUITE_P(Families, GgufTest,
                         testing::Values(std::pair("llama", "llama"), std::pair("llama+rope_linear", "llama"),
                                         std::pair("llama+rope_llama3", "llama"), std::pair("qwen2", "qwen2"),
                                         std::pair("qwen2+yarn", "qwen2"), std::pair("qwen3", "qwen3"),
                                         std::pair("gemma", "gemma"), std::pair("gemma2+caps", "gemma2"),
                                         std::pair("gemma3_text", "gemma3"), std::pair("phi3", "phi3"),
                                         std::pair("phi3+partial", "phi3"), std::pair("phi3+longrope", "phi3")),
                         [](const auto& values) { return std::string("case_") + std::to_string(values.index); });

}  // namespace
}  // namespace baize
