// Binding of blocks with a state of fixed size. Fused projections are brought into the order that the blocks read.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/error.h"
#include "base/mutate.h"
#include "model/binder.h"

namespace baize {

namespace {

std::vector<float> negated_exp(std::vector<float> logs) {
  for (float& value : logs) value = std::exp(value);
  return logs;
}

// Rows of a matrix that holds, `groups` times, one stretch a width of `widths`; brought into whole stretches.
std::vector<int64_t> ungrouped(int64_t groups, std::initializer_list<int64_t> widths) {
  std::vector<int64_t> rows;
  const int64_t group = std::accumulate(widths.begin(), widths.end(), int64_t{0}) / groups;
  int64_t first = 0;
  for (const int64_t width : widths) {
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t r = 0; r < width / groups; ++r) rows.push_back(g * group + first + r);
    }
    first += width / groups;
  }
  return rows;
}

}  // namespace

std::vector<float> Binder::need_vector(const std::string& name, int64_t dim, int64_t layer) {
  const SourceTensor& tensor = names_.need(name, layer);
  return floats(tensor.shape.elements() == dim ? tensor : checked(tensor, {dim}));
}

ConvArgs Binder::conv(const std::string& name, int64_t channels, int64_t width, Activation activation, int64_t layer) {
  ConvArgs args;
  args.width = width;
  args.activation = activation;
  args.weight = store_.small(need_vector(name + ".weight", channels * width, layer));
  args.bias = small(vector(name + ".bias", channels, layer));
  return args;
}

// Three convolutions of the parts of q|k|v. Some checkpoints cut them at thirds, not at the parts.
ConvArgs Binder::conv_of_three(int64_t channels, int64_t width, int64_t layer) {
  std::vector<float> all;
  for (const char* name : {"rec.conv_q.weight", "rec.conv_k.weight", "rec.conv_v.weight"}) {
    const std::vector<float> one = floats(names_.need(name, layer));
    all.insert(all.end(), one.begin(), one.end());
  }
  if (static_cast<int64_t>(all.size()) != channels * width) {
    fail(ErrorKind::kCorrupt, "{}: the convolutions of layer {} have {} weights in all, not {} x {}",
         model_->checkpoint->path(), layer, all.size(), channels, width);
  }
  return {.width = width, .activation = Activation::kSilu, .weight = store_.small(all), .bias = {}, .offset = 0};
}

void Binder::recurrence_inputs(const RecurrenceSpec& spec, int64_t layer, RecurrenceBlock& block) {
  using Kind = RecurrenceSpec::Kind;
  const int64_t keys = spec.key_heads * spec.key_dim, values = spec.heads * spec.value_dim, heads = spec.heads;
  const Place place{.layer = layer};
  LinearParts& in = block.in;
  const auto add = [&](const std::string& name, int64_t n, std::span<const int64_t> rows = {}, int64_t stored = 0) {
    Place own = place;
    own.rows = rows;
    own.stored_n = stored;
    own.alpha = spec.in_scale;
    in.part[in.count++] = linear(name, n, hidden(), own);
  };
  block.q = {0, keys};
  block.k = {keys, keys};
  block.v = {2 * keys, values};
  block.z = {2 * keys + values, values};
  block.b = {2 * keys + 2 * values, heads};
  block.a = {2 * keys + 2 * values + heads, heads};
  if (spec.kind == Kind::kStateSpace) {  // z|v|k|q|a in one matrix: x, B, C and the step size
    block.z = {0, values};
    block.v = {values, values};
    block.k = {2 * values, keys};
    block.q = {2 * values + keys, keys};
    block.a = {2 * values + 2 * keys, heads};
    block.b = {};
    add("rec.in", 2 * values + 2 * keys + heads);
  } else if (spec.kind == Kind::kLightning) {
    const std::vector<int64_t> rows = ungrouped(heads, {values, values, values});
    add("rec.qkv", 3 * values, rows);
    add("rec.z", values);
    block.a = block.b = {};
  } else if (names_.find("rec.qkvz.weight", layer) != nullptr) {
    const std::vector<int64_t> rows = ungrouped(spec.key_heads, {keys, keys, values, values});
    const std::vector<int64_t> gates = ungrouped(spec.key_heads, {heads, heads});
    add("rec.qkvz", 2 * keys + 2 * values, rows);
    add("rec.ba", 2 * heads, gates);
  } else if (names_.find("rec.qkv.weight", layer) != nullptr) {
    add("rec.qkv", 2 * keys + values);
    add("rec.z", values);
    add("rec.b", heads);
    add("rec.a", heads);
  } else {  // each apart; gates perhaps through a narrow middle
    const int64_t narrow = spec.value_dim;
    const bool low = names_.find("rec.z_up.weight", layer) != nullptr;
    separate_inputs(spec, layer, low, block);
    if (low) {
      block.z = {2 * keys + values, narrow};
      block.b = {block.z.begin + narrow, heads};
      block.a = {block.b.begin + heads, narrow};
      block.z_up = linear("rec.z_up", values, narrow, place);
      block.a_up = linear("rec.a_up", keys, narrow, place);
    }
  }
}

// q, k, v, z, b and a in one matrix, made of the stored ones: more parts than an op takes.
void Binder::separate_inputs(const RecurrenceSpec& spec, int64_t layer, bool low, RecurrenceBlock& block) {
  const int64_t keys = spec.key_heads * spec.key_dim, values = spec.heads * spec.value_dim;
  const std::pair<const char*, int64_t> stored[] = {
      {"rec.q", keys},       {"rec.k", keys},
      {"rec.v", values},     {"rec.z", low ? spec.value_dim : values},
      {"rec.b", spec.heads}, {"rec.a", low ? spec.value_dim : spec.heads}};
  std::vector<const SourceTensor*> all;
  for (const auto& [name, n] : stored) {
    all.push_back(&checked(names_.need(std::string(name) + ".weight", layer), {n, hidden()}));
  }
  block.in.part[block.in.count++] = linear_of(derived_.stacked(all), "rec.in", {.layer = layer}, {});
}

// Stored as [heads, block, 1] by place, and [heads, block, block] by two places, of which only the distance counts.
void Binder::decay_tables(const RecurrenceSpec& spec, int64_t layer, RecurrenceArgs& args) {
  const int64_t heads = spec.heads, block = spec.block;
  if (block == 0 || mutated("recurrence.block")) return;
  const std::vector<float> pairs = need_vector("rec.near.weight", heads * block * block, layer);
  std::vector<float> near;
  for (int64_t i = 0; i < heads * block; ++i) near.push_back(pairs[static_cast<size_t>(i * block)]);
  args.block = block;
  args.near = store_.small(near);
  args.enter = store_.small(need_vector("rec.enter.weight", heads * block, layer));
  args.leave = store_.small(need_vector("rec.leave.weight", heads * block, layer));
}

RecurrenceBlock Binder::bind_block(const RecurrenceSpec& spec, int64_t layer, float scale) {
  using Kind = RecurrenceSpec::Kind;
  RecurrenceBlock block;
  block.state = states_++;
  recurrence_inputs(spec, layer, block);
  const int64_t keys = spec.key_heads * spec.key_dim, values = spec.heads * spec.value_dim;
  const int64_t channels = 2 * keys + values;
  if (spec.conv > 0 && names_.find("rec.conv_q.weight", layer) != nullptr) {
    block.conv = conv_of_three(channels, spec.conv, layer);
    block.conv.activation = spec.activation;
  } else if (spec.conv > 0) {
    block.conv = conv("rec.conv", channels, spec.conv, spec.activation, layer);
  }
  if (mutated("recurrence.conv")) block.conv.width = 0;
  if (spec.kind == Kind::kLightning) block.conv.activation = spec.activation;
  RecurrenceArgs& args = block.args;
  args.heads = spec.heads;
  args.key_heads = spec.key_heads;
  args.key_dim = spec.key_dim;
  args.value_dim = spec.value_dim;
  args.offset = std::max<int64_t>(0, spec.conv - 1) * channels;
  const bool deltas = spec.kind == Kind::kDelta || spec.kind == Kind::kChannelDelta;
  args.delta = deltas && !mutated("recurrence.delta");
  args.unit_keys = deltas && !mutated("recurrence.unit_keys");
  args.channel_decay = spec.kind == Kind::kChannelDelta;
  if (deltas) args.q_scale = 1 / std::sqrt(static_cast<float>(spec.key_dim));
  if (spec.kind == Kind::kLightning) {
    std::vector<float> rates = need_vector("rec.slope.weight", spec.heads, layer);
    for (float& rate : rates) rate = mutated("recurrence.decay") ? 1 : std::exp(-rate);
    args.rate = store_.small(rates);
    decay_tables(spec, layer, args);
  } else {
    block.decay.rate = store_.small(negated_exp(need_vector("rec.a_log.weight", spec.heads, layer)));
    block.decay.bias = store_.small(need_vector("rec.dt.bias", args.channel_decay ? keys : spec.heads, layer));
    block.decay.least = spec.least_step;
    block.decay.most = mutated("recurrence.decay") ? 0 : spec.most_step;
  }
  if (spec.kind == Kind::kStateSpace) args.skip = store_.small(need_vector("rec.skip.weight", spec.heads, layer));
  block.beta_scale = spec.beta_scale;
  block.gate = spec.gate;
  block.norm_first = spec.norm_first;
  block.norm_groups = spec.norm_groups;
  const int64_t group = values / spec.norm_groups;
  const SourceTensor* const stored = names_.find("rec.norm.weight", layer);
  const bool shared = stored != nullptr && stored->shape.elements() <= group;  // of a dummy it is not known yet
  block.norm = norm(spec.norm, "rec.norm", shared ? group : values, layer);
  if (block.norm.present() && !shared) {
    block.ones.weight = store_.small(std::vector<float>(static_cast<size_t>(group), 1.0f));
    block.ones.eps = spec.norm.eps;
  }
  if (!spec.in_factors.empty() && !mutated("recurrence.in_factors")) {
    const std::array<int64_t, 5> widths = {values, values, keys, keys, spec.heads};
    std::vector<float> factors;
    for (size_t i = 0; i < widths.size(); ++i) {
      factors.insert(factors.end(), static_cast<size_t>(widths[i]), spec.in_factors[i]);
    }
    block.in_scale = store_.small(factors);
  }
  block.o = linear("rec.out", hidden(), values, {.layer = layer, .alpha = scale * spec.out_scale});
  return block;
}

MambaBlock Binder::bind_block(const MambaSpec& spec, int64_t layer, float scale) {
  MambaBlock block;
  block.state = states_++;
  block.rank = spec.rank;
  std::vector<int64_t> rows;
  for (int64_t r = 0; spec.pairs && r < 2 * spec.width; ++r) {
    rows.push_back(r < spec.width ? 2 * r : 2 * (r - spec.width) + 1);
  }
  block.in = linear("rec.in", 2 * spec.width, hidden(), {.layer = layer, .rows = rows});
  block.conv = conv("rec.conv", spec.width, spec.conv, spec.activation, layer);
  const int64_t heads = spec.heads, each = spec.width / heads;
  const auto flat = [&](const char* name, int64_t n, int64_t k) -> const SourceTensor& {  // some store [heads, n, k]
    const SourceTensor& stored = names_.need(std::string(name) + ".weight", layer);
    if (stored.shape.elements() != n * k) checked(stored, {n, k});
    return derived_.reshaped(stored, {n, k});
  };
  const int64_t low_n = spec.rank + 2 * spec.state;
  const SourceTensor &low = flat("rec.low", heads * low_n, each), &dt = flat("rec.dt", spec.width, spec.rank);
  const std::vector<float> dt_bias = vector("rec.dt.bias", spec.width, layer);
  const char* const names[] = {"rec.dt_norm", "rec.b_norm", "rec.c_norm"};
  const std::array<int64_t, 3> dims = {spec.rank, spec.state, spec.state};
  for (size_t i = 0; i < 3; ++i) block.norms[i] = norm(spec.inner_norm, names[i], dims[i], layer);
  std::vector<float> logs = need_vector("rec.a_log.weight", spec.width * spec.state, layer);
  if (mutated("mamba.decay")) std::fill(logs.begin(), logs.end(), 0.0f);
  const std::vector<float> rates = negated_exp(logs), skips = need_vector("rec.skip.weight", spec.width, layer);
  const auto part = [](const std::vector<float>& all, int64_t begin, int64_t count) {
    return all.empty() ? all : std::vector<float>(all.begin() + begin, all.begin() + begin + count);
  };
  for (int64_t h = 0; h < heads; ++h) {
    const Place place{.layer = layer, .expert = heads > 1 ? h : -1};
    block.heads.push_back({linear_of(derived_.rows(low, h * low_n, low_n), "rec.low", place, {}),
                           linear_of(derived_.rows(dt, h * each, each), "rec.dt", place, part(dt_bias, h * each, each)),
                           {.state = spec.state,
                            .rate = store_.small(part(rates, h * each * spec.state, each * spec.state)),
                            .skip = store_.small(part(skips, h * each, each)),
                            .offset = (spec.conv - 1) * spec.width + h * each * spec.state}});
  }
  block.out = linear("rec.out", hidden(), spec.width, {.layer = layer, .alpha = scale});
  return block;
}

ShortConvBlock Binder::bind_block(const ShortConvSpec& spec, int64_t layer, float scale) {
  ShortConvBlock block;
  block.state = states_++;
  block.in = linear("rec.in", 3 * hidden(), hidden(), {.layer = layer});
  block.conv = conv("rec.conv", hidden(), spec.conv, Activation::kIdentity, layer);
  block.out = linear("rec.out", hidden(), hidden(), {.layer = layer, .alpha = scale});
  return block;
}

LruBlock Binder::bind_block(const LruSpec& spec, int64_t layer, float scale) {
  LruBlock block;
  block.state = states_++;
  block.activation = spec.activation;
  block.x = linear("rec.in", spec.width, hidden(), {.layer = layer});
  block.y = linear("rec.z", spec.width, hidden(), {.layer = layer});
  block.out = linear("rec.out", hidden(), spec.width, {.layer = layer, .alpha = scale});
  block.conv = conv("rec.conv", spec.width, spec.conv, Activation::kIdentity, layer);
  const int64_t each = spec.width / spec.blocks;
  const auto gates = [&](const std::string& name, std::vector<Linear>& to) {
    const SourceTensor& all =
        derived_.reshaped(checked(names_.need(name + ".weight", layer), {spec.blocks, each, each}), {spec.width, each});
    const std::vector<float> bias = vector(name + ".bias", spec.width, layer);
    for (int64_t b = 0; b < spec.blocks; ++b) {
      const SourceTensor& one = derived_.transposed(derived_.rows(all, b * each, each));
      std::vector<float> own;
      if (!bias.empty()) own.assign(bias.begin() + b * each, bias.begin() + (b + 1) * each);
      to.push_back(linear_of(one, name, {.layer = layer, .expert = b}, own));
    }
  };
  gates("rec.input_gate", block.input_gate);
  gates("rec.decay_gate", block.decay_gate);
  std::vector<float> rates = need_vector("rec.lru.weight", spec.width, layer);
  for (float& rate : rates) rate = mutated("lru.decay") ? 1 : std::log1p(std::exp(rate));
  block.lru.rate = store_.small(rates);
  block.lru.offset = (spec.conv - 1) * spec.width;
  return block;
}

RwkvBlock Binder::bind_block(const RwkvSpec& spec, int64_t layer, float scale) {
  RwkvBlock block;
  block.state = states_++;
  block.time = spec.time;
  const std::string stem = spec.time ? "rwkv.time" : "rwkv.channel";
  const Place place{.layer = layer};
  const Place last{.layer = layer, .alpha = scale};
  const auto share = [&](const char* name) {
    std::vector<float> values = need_vector(stem + name, hidden(), layer);
    if (mutated("rwkv.shift")) std::fill(values.begin(), values.end(), 1.0f);
    return store_.small(values);
  };
  block.mix_k = share(".mix_k.weight");
  block.mix_r = share(".mix_r.weight");
  block.key = linear(stem + ".key", spec.width, hidden(), place);
  block.receptance = linear(stem + ".receptance", spec.time ? spec.width : hidden(), hidden(), place);
  if (!spec.time) {
    block.value = linear(stem + ".value", hidden(), spec.width, last);
    return block;
  }
  block.mix_v = share(".mix_v.weight");
  block.value = linear(stem + ".value", spec.width, hidden(), place);
  block.output = linear(stem + ".output", hidden(), spec.width, last);
  std::vector<float> rates = negated_exp(need_vector("rwkv.time.decay.weight", spec.width, layer));
  if (mutated("rwkv.decay")) std::fill(rates.begin(), rates.end(), 0.0f);
  block.wkv = {store_.small(rates), store_.small(need_vector("rwkv.time.first.weight", spec.width, layer)), hidden()};
  return block;
}

}  // namespace baize
