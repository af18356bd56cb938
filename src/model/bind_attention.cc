// Binding of attention: q|k|v in any stored order, norms of any axis, gates, sinks, slopes; and of latent attention.
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/mutate.h"
#include "model/binder.h"

namespace baize {

std::vector<int64_t> qkv_rows(const QkvLayout& layout, std::array<int64_t, 3> widths) {
  std::vector<int64_t> rows;
  if (layout.groups <= 1 && layout.order == QkvLayout::Order::kQkv) return rows;
  const std::array<size_t, 3> order =
      layout.order == QkvLayout::Order::kQkv ? std::array<size_t, 3>{0, 1, 2} : std::array<size_t, 3>{0, 2, 1};
  int64_t group = 0;
  for (const int64_t width : widths) group += width / layout.groups;
  for (size_t part = 0; part < 3; ++part) {
    int64_t first = 0;
    for (size_t i = 0; order[i] != part; ++i) first += widths[order[i]] / layout.groups;
    for (int64_t g = 0; g < layout.groups; ++g) {
      for (int64_t r = 0; r < widths[part] / layout.groups; ++r) rows.push_back(g * group + first + r);
    }
  }
  return rows;
}

namespace {

// Slopes of ALiBi (Press et al. 2021): a geometric sequence for the next lower power of two of heads, and for the rest
// every other one of the sequence twice as long.
std::vector<float> alibi_slopes(int64_t heads, float steepest) {
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  std::vector<float> slopes;
  for (int64_t h = 0; h < heads; ++h) {
    const auto count = static_cast<float>(h < power ? power : 2 * power);
    const auto index = static_cast<float>(h < power ? h + 1 : 2 * (h - power) + 1);
    slopes.push_back(std::pow(2.0f, -steepest * index / count));
  }
  return slopes;
}

}  // namespace

void Binder::attention_matrices(const AttnSpec& spec, int64_t layer, AttnBlock& block) {
  const int64_t q = spec.heads * spec.head_dim, k = spec.kv_heads * spec.head_dim, v = spec.kv_heads * block.v_dim;
  const int64_t width = spec.width > 0 ? spec.width : hidden();
  const Place place{.layer = layer, .transposed = model_->spec.transposed};
  LinearParts& parts_of = block.qkv;
  std::vector<int64_t> q_rows, gate_rows;
  for (int64_t r = 0; spec.gate_in_q && r < 2 * q; ++r) {
    (r / spec.head_dim % 2 == 0 ? q_rows : gate_rows).push_back(r);
  }
  if (spec.gate_in_q) {
    Place half = place;
    half.stored_n = 2 * q;
    half.rows = q_rows;
    parts_of.part[0] = linear("attn.q", q, width, half);
    parts_of.part[1] = linear("attn.k", k, width, place);
    parts_of.part[2] = linear("attn.v", v, width, place);
    half.rows = gate_rows;
    parts_of.part[3] = linear("attn.q", q, width, half);
    parts_of.count = 4;
    block.gate_n = q;
  } else if (spec.kv_from >= 0) {
    parts_of.part[0] = linear("attn.q", q, width, place);
    parts_of.count = 1;
    for (const char* unread : {"attn.k.weight", "attn.v.weight", "attn.k_norm.weight"}) names_.find(unread, layer);
  } else {
    const std::array<std::string, 3> own = {"attn.q", "attn.k", spec.values_are_keys ? "attn.k" : "attn.v"};
    const std::array<int64_t, 3> widths = {q, k, v};
    const std::array<float, 3> alphas = {1, spec.k_scale, spec.v_scale};
    const std::vector<int64_t> rows = qkv_rows(spec.layout, widths);
    parts_of = parts({own, "attn.qkv", widths, alphas, rows}, width, layer);
    const Place added{.layer = layer, .expert = spec.adapter};
    adapt(block.adapters, "attn.q", {0, q}, width, added);
    adapt(block.adapters, "attn.k", {q, k}, width, added);
    adapt(block.adapters, "attn.v", {q + k, v}, width, added);
  }
  if (const SourceTensor* gate = names_.find("attn.gate.weight", layer); gate != nullptr) {
    block.gate_n = gate->shape[0] == spec.heads ? spec.heads : spec.heads * block.v_dim;
    parts_of.part[parts_of.count++] = linear("attn.gate", block.gate_n, width, place);
  }
}

Norm Binder::head_norm(const NormSpec& spec, const std::string& name, int64_t heads, int64_t dim, int64_t layer) {
  if (!spec.present) return {};
  Norm bound{.weight = {}, .eps = spec.eps, .center = spec.center, .bias = {}};
  std::vector<float> all;
  if (names_.find(name + ".head.weight", layer, 0) == nullptr) {
    all = need_vector(name + ".weight", heads * dim, layer);
  } else {
    for (int64_t h = 0; h < heads; ++h) {
      const std::vector<float> one = floats(checked(names_.need(name + ".head.weight", layer, h), {dim}));
      all.insert(all.end(), one.begin(), one.end());
    }
  }
  bound.weight = store_.small(all).reshaped({heads, dim});
  return bound;
}

void Binder::attention_norms(const AttnSpec& spec, int64_t layer, AttnBlock& block) {
  if (mutated("norm.qk")) return;
  QkvArgs& args = block.qkv_args;
  const bool keys = spec.kv_from < 0;
  switch (spec.norm_axis) {
    case Axis::kHead:
      args.q_norm = norm(spec.q_norm, "attn.q_norm", spec.head_dim, layer);
      if (keys) args.k_norm = norm(spec.k_norm, "attn.k_norm", spec.head_dim, layer);
      break;
    case Axis::kAll:
      block.q_all = norm(spec.q_norm, "attn.q_norm", spec.heads * spec.head_dim, layer);
      if (keys) block.k_all = norm(spec.k_norm, "attn.k_norm", spec.kv_heads * spec.head_dim, layer);
      break;
    case Axis::kEachHead:
      args.q_norm = head_norm(spec.q_norm, "attn.q_norm", spec.heads, spec.head_dim, layer);
      args.k_norm = head_norm(spec.k_norm, "attn.k_norm", spec.kv_heads, spec.head_dim, layer);
      break;
  }
  if (keys) args.v_norm = norm(spec.v_norm, "attn.v_norm", block.v_dim, layer);
}

AttnBlock Binder::bind_block(const AttnSpec& spec, int64_t layer, float scale) {
  AttnBlock block;
  block.v_dim = spec.v_dim > 0 ? spec.v_dim : spec.head_dim;
  block.state = spec.kv_from < 0 ? states_++ : state_of_layer_[static_cast<size_t>(spec.kv_from)];
  attention_matrices(spec, layer, block);
  const Place place{.layer = layer, .alpha = scale, .transposed = model_->spec.transposed};
  block.o = linear("attn.o", hidden(), spec.heads * block.v_dim, place);
  if (spec.differential == 0) block.out_norm = norm(spec.out_norm, "attn.out_norm", spec.heads * block.v_dim, layer);
  block.clip = mutated("attention.clip") ? 0 : spec.clip;
  block.gate = spec.gate;
  block.args.shape = {spec.heads, spec.kv_heads, spec.head_dim};
  block.args.scale = spec.scale;
  block.args.softcap = mutated("softcap.attention") ? 0 : spec.softcap;
  block.args.window = mutated("attention.window") ? 0 : spec.window;
  block.args.chunked = spec.chunked && block.args.window > 0 && !mutated("attention.chunked");
  if (!mutated("attention.sinks")) block.args.sinks = small(vector("attn.sinks.weight", spec.heads, layer));
  if (spec.alibi > 0 && !mutated("attention.alibi")) {
    std::vector<float> slopes = alibi_slopes(spec.heads, spec.alibi);
    for (float& slope : slopes) slope *= spec.alibi_scale;
    block.args.slopes = store_.small(slopes);
  }
  block.qkv_args.shape = block.args.shape;
  block.qkv_args.rope = rope(spec.rope);
  block.qkv_args.norm_last = spec.norm_last && !mutated("norm.qk_last");
  block.qkv_args.store = spec.kv_from < 0;
  if (!mutated("attention.temperature")) {
    block.qkv_args.temperature = {spec.temperature_scale, spec.temperature_length, spec.temperature_offset};
  }
  attention_norms(spec, layer, block);
  if (spec.keep > 0) {
    std::vector<float> rates = need_vector("attn.mask_rate.weight", spec.kv_heads, layer);
    for (float& rate : rates) rate = -rate;
    block.mask = {linear("attn.mask", spec.kv_heads, spec.kv_heads * block.v_dim, {.layer = layer}),
                  {.rate = store_.small(rates)},
                  spec.keep,
                  states_++};
  }
  if (spec.differential > 0) {
    const auto dot = [&](const char* a, const char* b) {
      const std::vector<float> x = need_vector(a, spec.head_dim, layer), y = need_vector(b, spec.head_dim, layer);
      return std::inner_product(x.begin(), x.end(), y.begin(), 0.0f);
    };
    block.difference = std::exp(dot("attn.lambda_q1.weight", "attn.lambda_k1.weight")) -
                       std::exp(dot("attn.lambda_q2.weight", "attn.lambda_k2.weight")) + spec.differential;
    block.pair_norm.weight =
        store_.small(std::vector<float>(static_cast<size_t>(2 * block.v_dim), 1 - spec.differential));
    block.pair_norm.eps = spec.out_norm.eps;
  }
  return block;
}

IndexerBlock Binder::indexer(const IndexerSpec& spec, int64_t q_rank, int64_t layer) {
  IndexerBlock block;
  model_->selected = std::max(model_->selected, spec.top_k);
  if (spec.shared) return block;
  const float scale = 1 / std::sqrt(static_cast<float>(spec.heads * spec.head_dim));
  block.q = linear("index.q", spec.heads * spec.head_dim, q_rank, {.layer = layer});
  block.weights = linear("index.weights", spec.heads, hidden(), {.layer = layer, .alpha = scale});
  block.qkv_args.shape = {spec.heads, 1, spec.head_dim};
  block.qkv_args.store = spec.k_norm.present;  // else compressed keys of its own
  if (block.qkv_args.store) {
    block.state = states_++;
    block.k = linear("index.k", spec.head_dim, hidden(), {.layer = layer});
    block.qkv_args.k_norm = norm(spec.k_norm, "index.k_norm", spec.head_dim, layer);
  }
  block.qkv_args.rope = rope(spec.rope);
  block.args = {spec.heads, spec.head_dim, spec.top_k};
  return block;
}

AttnExpertsBlock Binder::bind_block(const AttnExpertsSpec& spec, int64_t layer, float scale) {
  const AttnSpec& a = spec.attention;
  const int64_t width = a.kv_heads * a.head_dim;
  AttnExpertsBlock block;
  block.state = states_++;
  block.router = linear("attn.router", spec.experts, hidden(), {.layer = layer});
  block.kv = linear("attn.kv", 2 * width, hidden(), {.layer = layer});
  const auto each = [&](const char* name, int64_t n, int64_t k, float alpha, std::vector<Linear>& to) {
    const SourceTensor& stored = checked(names_.need(std::string(name) + ".weight", layer), {spec.experts, n, k});
    const SourceTensor& all = derived_.reshaped(stored, {spec.experts * n, k});
    for (int64_t e = 0; e < spec.experts; ++e) {
      to.push_back(linear_of(derived_.rows(all, e * n, n), name, {.layer = layer, .alpha = alpha, .expert = e}, {}));
    }
  };
  each("attn.all.q", width, hidden(), 1, block.q);
  each("attn.all.o", hidden(), width, scale, block.o);
  block.route.top_k = spec.top_k;
  block.route.score = RouteArgs::Score::kLogit;
  block.route.softmax_last = true;
  block.args.shape = {a.kv_heads, a.kv_heads, a.head_dim};
  block.args.scale = a.scale;
  block.args.window = a.window;
  block.qkv_args.shape = {a.heads, a.kv_heads, a.head_dim};
  block.qkv_args.rope = rope(a.rope);
  std::vector<float> bias = vector("attn.out.bias", hidden(), layer);
  for (float& b : bias) b *= scale;
  block.out_bias = small(bias);
  return block;
}

MlaBlock Binder::bind_block(const MlaSpec& spec, int64_t layer, float scale) {
  MlaBlock block;
  block.state = states_++;
  block.v_dim = spec.v_dim;
  block.sparse = spec.indexer.top_k > 0;
  if (block.sparse) block.indexer = indexer(spec.indexer, spec.q_rank, layer);
  const Place place{.layer = layer};
  const int64_t width = spec.nope_dim + spec.rope_dim, stored = spec.kv_rank + spec.rope_dim;
  if (spec.q_rank > 0) {
    block.q_a = linear("mla.q_a", spec.q_rank, hidden(), place);
    block.q_norm = norm(spec.q_norm, "mla.q_norm", spec.q_rank, layer);
    block.q.part[0] = linear("mla.q_b", spec.heads * width, spec.q_rank, place);
  } else {
    block.q.part[0] = linear("attn.q", spec.heads * width, hidden(), place);
  }
  block.q.count = 1;
  block.kv_a = linear("mla.kv_a", stored, hidden(), place);
  block.kv_norm = norm(spec.kv_norm, "mla.kv_norm", spec.kv_rank, layer);
  // What turns the latent vector into keys and values, a head each: in one matrix, or apart with the keys turned.
  const int64_t rows = spec.nope_dim + spec.v_dim, rank = spec.kv_rank;
  const SourceTensor* const keys = names_.find("mla.k_b.weight", layer);
  const SourceTensor& both =
      keys != nullptr
          ? derived_.reshaped(checked(*keys, {spec.heads, rank, spec.nope_dim}), {spec.heads * rank, spec.nope_dim})
          : checked(names_.need("mla.kv_b.weight", layer), {spec.heads * rows, rank});
  const SourceTensor* const values =
      keys == nullptr
          ? nullptr
          : &derived_.reshaped(checked(names_.need("mla.v_b.weight", layer), {spec.heads, spec.v_dim, rank}),
                               {spec.heads * spec.v_dim, rank});
  for (int64_t h = 0; h < spec.heads; ++h) {
    const Place head{.layer = layer, .expert = h};
    block.k_up.push_back(linear_of(keys != nullptr ? derived_.rows(both, h * rank, rank)
                                                   : derived_.transposed(derived_.rows(both, h * rows, spec.nope_dim)),
                                   "mla.k_up", head, {}));
    block.v_up.push_back(linear_of(values != nullptr ? derived_.rows(*values, h * spec.v_dim, spec.v_dim)
                                                     : derived_.rows(both, h * rows + spec.nope_dim, spec.v_dim),
                                   "mla.v_up", head, {}));
  }
  if (spec.gated) block.gate = linear("attn.gate", spec.heads * spec.v_dim, hidden(), place);
  block.o = linear("attn.o", hidden(), spec.heads * spec.v_dim, {.layer = layer, .alpha = scale});
  block.latent = {spec.heads, spec.nope_dim, spec.rope_dim, spec.kv_rank, rope(spec.rope)};
  block.args.shape = {spec.heads, 1, stored};
  block.args.scale = spec.scale;
  if (!mutated("attention.sinks")) block.args.sinks = small(vector("attn.sinks.weight", spec.heads, layer));
  return block;
}

}  // namespace baize
