// Binding of feed-forwards: dense ones, and mixtures of experts stored one by one or all in one tensor.
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/mutate.h"
#include "model/binder.h"

namespace baize {

ActArgs Binder::activation(const DenseFfn& spec, const std::string& stem, int64_t layer) {
  ActArgs args;
  args.kind = mutated("ffn.activation") ? Activation::kTanh : spec.activation;
  args.limit = mutated("ffn.limit") ? 0 : spec.limit;
  args.up_shift = mutated("ffn.up_shift") ? 0 : spec.up_shift;
  args.sparsity = mutated("ffn.sparsity") ? 0 : spec.sparsity;
  if (args.kind == Activation::kXielu) {
    const auto one = [&](const char* name) {
      return need_vector(fmt::format("{}.{}.weight", stem, name), 1, layer)[0];
    };
    const auto softplus = [](float x) { return std::log1p(std::exp(x)); };
    args.beta = one("beta");
    args.eps = one("eps");
    args.alpha_p = softplus(one("alpha_p"));
    args.alpha_n = args.beta + softplus(one("alpha_n"));
  }
  return args;
}

FfnBlock Binder::ffn(const DenseFfn& spec, const std::string& stem, int64_t layer, float scale) {
  FfnBlock block;
  const std::array<std::string, 2> own = {stem + ".gate", stem + ".up"};
  const std::array<int64_t, 2> widths = {spec.ff, spec.ff};
  const std::array<float, 2> alphas = {spec.gate_scale, 1};
  const size_t first = spec.gated ? 0 : 1;
  std::vector<int64_t> rows;
  for (int64_t r = 0; spec.turned && r < 2 * spec.ff; ++r) rows.push_back((r + spec.ff) % (2 * spec.ff));
  block.gate_up = parts({std::span(own).subspan(first), stem + ".gate_up", std::span(widths).subspan(first),
                         std::span(alphas).subspan(first), rows},
                        hidden(), layer);
  const Place place{.layer = layer, .alpha = scale * spec.down_scale, .transposed = model_->spec.transposed};
  adapt(block.adapters, stem, {0, block.gate_up.n()}, hidden(), {.layer = layer, .expert = spec.adapter});
  block.down = linear(stem + ".down", hidden(), spec.ff, place);
  block.activation = activation(spec, stem, layer);
  block.inner_norm = norm(spec.inner_norm, stem + ".inner_norm", spec.ff, layer);
  block.ff = spec.ff;
  return block;
}

FfnBlock Binder::bind_block(const DenseFfn& spec, int64_t layer, float scale) { return ffn(spec, "ffn", layer, scale); }

std::vector<float> Binder::expert_scales(const MoeFfn& spec, int64_t layer, float scale) {
  std::vector<float> scales = vector("moe.expert_scale.weight", spec.experts, layer);
  if (scales.empty() || mutated("moe.expert_scale")) scales.assign(static_cast<size_t>(spec.experts), 1.0f);
  for (float& s : scales) s *= scale;
  return scales;
}

void Binder::experts_apart(const MoeFfn& spec, int64_t layer, std::span<const float> scales, MoeBlock& block) {
  for (int64_t e = 0; e < spec.experts; ++e) {
    const Place place{.layer = layer, .expert = e};
    if (spec.expert.gated) block.gate.push_back(linear("moe.gate", spec.expert.ff, hidden(), place));
    block.up.push_back(linear("moe.up", spec.expert.ff, hidden(), place));
    const float scale = scales[static_cast<size_t>(e)];
    block.down.push_back(linear("moe.down", hidden(), spec.expert.ff, {.layer = layer, .alpha = scale, .expert = e}));
  }
}

// One tensor of all experts is [experts, n, k], or [experts, k, n] where `transposed`; or the same as a matrix.
void Binder::experts_together(const MoeFfn& spec, int64_t layer, std::span<const float> scales, MoeBlock& block) {
  const int64_t ff = spec.expert.ff;
  std::vector<int64_t> rows;
  for (int64_t r = 0; spec.expert.pairs && r < 2 * ff; ++r) rows.push_back(r < ff ? 2 * r : 2 * (r - ff) + 1);
  const auto bind_all = [&](const std::string& name, int64_t n, int64_t k, bool turned, std::span<const float> alphas,
                            std::vector<Linear>& to) {
    const SourceTensor& stored = names_.need(name + ".weight", layer);
    if (stored.shape.elements() != spec.experts * n * k) checked(stored, {spec.experts, n, k});
    const SourceTensor& all = derived_.reshaped(stored, {spec.experts * (turned ? k : n), turned ? n : k});
    const SourceTensor* bias = names_.find(name + ".bias", layer);
    std::vector<float> biases;
    if (bias != nullptr && !mutated("moe.bias")) biases = floats(checked(*bias, {spec.experts, n}));
    const bool order = !rows.empty() && n == 2 * ff;
    for (int64_t e = 0; e < spec.experts; ++e) {
      const SourceTensor* one = &derived_.rows(all, e * (turned ? k : n), turned ? k : n);
      if (turned) one = &derived_.transposed(*one);
      if (order) one = &derived_.permuted(*one, rows);
      std::vector<float> own;
      for (int64_t r = 0; !biases.empty() && r < n; ++r) {
        own.push_back(biases[static_cast<size_t>(e * n + (order ? rows[static_cast<size_t>(r)] : r))]);
      }
      const float alpha = alphas.empty() ? 1 : alphas[static_cast<size_t>(e)];
      to.push_back(linear_of(*one, name, {.layer = layer, .alpha = alpha, .expert = e}, own));
    }
  };
  if (names_.find("moe.all.gate_up.weight", layer) != nullptr) {
    bind_all("moe.all.gate_up", 2 * ff, hidden(), spec.transposed, {}, block.up);
  } else {
    if (spec.expert.gated) bind_all("moe.all.gate", ff, hidden(), false, {}, block.gate);
    bind_all("moe.all.up", ff, hidden(), false, {}, block.up);
  }
  bind_all("moe.all.down", hidden(), ff, spec.transposed || spec.turned_down, scales, block.down);
}

// The experts of each token id, [vocabulary, top_k].
Tensor Binder::experts_by_token(const MoeFfn& spec, int64_t layer) {
  const int64_t vocab = model_->spec.dims.vocab;
  const SourceTensor& table = checked(names_.need_integers("moe.by_token.weight", layer), {vocab, spec.top_k});
  std::vector<int32_t> ids(static_cast<size_t>(vocab * spec.top_k));
  for (size_t i = 0; i < ids.size() && !options_.dry; ++i) {
    int64_t id = 0;
    std::memcpy(&id, table.bytes.data() + i * sizeof(id), sizeof(id));
    if (id < 0 || id >= spec.experts) {
      fail(ErrorKind::kCorrupt, "{}: tensor {} names expert {} of {}", model_->checkpoint->path(), table.name, id,
           spec.experts);
    }
    ids[i] = static_cast<int32_t>(id);
  }
  return store_.small(ids).reshaped({vocab, spec.top_k});
}

LayerInputBlock Binder::bind_block(const LayerInputSpec& spec, int64_t layer, float scale) {
  LayerInputBlock block;
  block.gate = linear("layer.gate", spec.width, hidden(), {.layer = layer});
  block.up = linear("layer.up", hidden(), spec.width, {.layer = layer, .alpha = scale});
  block.activation = spec.activation;
  block.column = mutated("layer_input.column") ? 0 : layer * spec.width;
  return block;
}

MatrixBlock Binder::bind_block(const MatrixSpec& spec, int64_t layer, float scale) {
  const Place place{.layer = layer, .alpha = scale};
  if (spec.rank == 0) return {linear("matrix", spec.width, hidden(), place), {}};
  return {linear("matrix.up", spec.width, spec.rank, place),
          linear("matrix.down", spec.rank, hidden(), {.layer = layer})};
}

MoeBlock Binder::bind_block(const MoeFfn& spec, int64_t layer, float scale) {
  MoeBlock block;
  // Where the choice's bias is stored as the router's, it is not added to the logits.
  const bool biased = names_.find("moe.router.bias", layer) != names_.find("moe.choice.bias", layer);
  const SourceTensor& router = checked(names_.need("moe.router.weight", layer), {spec.experts, hidden()});
  block.router = linear_of(router, "moe.router", {.layer = layer, .alpha = spec.router_scale},
                           biased ? bias_of("moe.router", spec.experts, {.layer = layer}) : std::vector<float>());
  block.router_norm = norm(spec.router_norm, "moe.router_norm", hidden(), layer);
  block.routed_norm = norm(spec.routed_norm, "moe.norm", hidden(), layer);
  block.routed_post = norm(spec.routed_post, "moe.post_norm", hidden(), layer);
  block.shared_post = norm(spec.shared_post, "moe.shared.post_norm", hidden(), layer);
  block.router_softcap = spec.router_softcap;
  RouteArgs& route = block.route;
  route.score = mutated("moe.score") ? RouteArgs::Score::kLogit : spec.score;
  route.top_k = spec.top_k;
  route.groups = mutated("moe.groups") ? 1 : spec.groups;
  route.top_groups = spec.top_groups;
  route.group_by_two = spec.group_by_two;
  route.renormalise = spec.renormalise && !mutated("moe.renormalise");
  route.norm_min = spec.norm_min;
  route.softmax_last = spec.softmax_last;
  route.scale = mutated("moe.scale") ? 1 : spec.scale;
  route.sparse_mixer = spec.sparse_mixer;
  if (!mutated("moe.choice_bias")) route.bias = small(vector("moe.choice.bias", spec.experts, layer));
  if (spec.hashed && !mutated("moe.hashed")) route.by_token = experts_by_token(spec, layer);
  const std::vector<float> routed = expert_scales(spec, layer, scale * spec.routed_scale);
  const bool apart = names_.find("moe.up.weight", layer, 0) != nullptr;
  apart ? experts_apart(spec, layer, routed, block) : experts_together(spec, layer, routed, block);
  block.activation = activation(spec.expert, "moe", layer);
  block.gated = spec.expert.gated;
  block.weigh_input = spec.weigh_input && !mutated("moe.weigh_input");
  if (spec.shared.ff > 0) {
    block.shared = ffn(spec.shared, "moe.shared", layer, scale * spec.shared_scale);
    const SourceTensor* gate = names_.find("moe.shared.out_gate.weight", layer);
    if (gate != nullptr && !mutated("moe.shared_gate")) {  // a vector in GGUF
      const bool vector = gate->shape.rank() == 1 && gate->shape[0] == hidden();
      const SourceTensor& row = checked(*gate, vector ? Shape{hidden()} : Shape{1, hidden()});
      block.shared_gate = linear_of(derived_.reshaped(row, {1, hidden()}), "moe.shared.out_gate", {.layer = layer}, {});
    }
  }
  block.out_bias = small(vector("moe.out.bias", hidden(), layer));
  return block;
}

}  // namespace baize
