#include "model/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "model/names.h"
#include "model/rope.h"

namespace baize {

namespace {

using Kind = RopeSpec::Kind;

uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }

// The blocks of one kind, one a layer; nullptr where a layer has none.
template <typename T>
std::vector<const T*> blocks_of(const ModelSpec& spec) {
  std::vector<const T*> found;
  for (const LayerSpec& layer : spec.layers) {
    const T* block = nullptr;
    for (const Sublayer& sub : layer.sub) block = block == nullptr ? std::get_if<T>(&sub.block) : block;
    found.push_back(block);
  }
  return found;
}

template <typename T>
const T* first_of(const std::vector<const T*>& blocks) {
  const auto at = std::ranges::find_if(blocks, [](const T* block) { return block != nullptr; });
  return at == blocks.end() ? nullptr : *at;
}

class Keys {
 public:
  void add(std::string name, GgufValue value) { keys_.push_back({std::move(name), std::move(value)}); }
  /// By the canonical key, which tells GGUF's.
  void add_if_asked(std::string key, GgufValue value) {
    keys_.push_back({std::string(gguf_key(key)), std::move(value), std::move(key)});
  }
  /// One number where all layers agree, else one a layer.
  void add_each(std::string name, const std::vector<int64_t>& values) {
    if (std::ranges::all_of(values, [&](int64_t value) { return value == values.front(); })) {
      return add(std::move(name), u32(values.front()));
    }
    std::vector<int32_t> list(values.size());
    std::ranges::transform(values, list.begin(), [](int64_t value) { return static_cast<int32_t>(value); });
    add(std::move(name), std::move(list));
  }
  std::vector<GgufKey> take() { return std::move(keys_); }

 private:
  std::vector<GgufKey> keys_;
};

float yarn_magnitude(float factor) { return factor <= 1 ? 1.0f : 0.1f * std::log(factor) + 1.0f; }

void add_rope(const RopeSpec& rope, int64_t context, Keys& keys) {
  if (rope.kind == Kind::kNone) return;
  keys.add("rope.dimension_count", u32(rope.rot_dim));
  keys.add("rope.freq_base", rope.theta);
  const auto factor_unless_one = [&](float factor) {
    if (std::abs(factor - 1) > 1e-6f) keys.add("rope.scaling.attn_factor", factor);
  };
  if (rope.kind == Kind::kLinear || rope.kind == Kind::kYarn) {
    keys.add("rope.scaling.type", rope.kind == Kind::kLinear ? std::string("linear") : std::string("yarn"));
    keys.add("rope.scaling.factor", rope.factor);
  }
  if (rope.kind == Kind::kYarn) {
    keys.add("rope.scaling.original_context_length", u32(rope.original_length));
    keys.add("rope.scaling.yarn_beta_fast", rope.beta_fast);
    keys.add("rope.scaling.yarn_beta_slow", rope.beta_slow);
    factor_unless_one(rope.attention_factor / yarn_magnitude(rope.factor));
  }
  if (rope.kind == Kind::kFactors) {
    keys.add("rope.scaling.original_context_length", u32(rope.original_length > 0 ? rope.original_length : context));
    factor_unless_one(rope.attention_factor);
  }
}

// The shortest period p >= 2 of which only the last layer has no window; 0 where there is none.
int64_t period_of(const std::vector<const AttnSpec*>& attention) {
  const auto layers = std::ssize(attention);
  for (int64_t period = 2; period <= layers; ++period) {
    bool fits = true;
    for (int64_t i = 0; i < layers; ++i) {
      const AttnSpec* a = attention[static_cast<size_t>(i)];
      fits = fits && a != nullptr && (a->window > 0) == ((i + 1) % period != 0);
    }
    if (fits) return period;
  }
  return 0;
}

// False when the pattern cannot describe the layers.
bool add_windows(const std::vector<const AttnSpec*>& attention, WindowPattern pattern, Keys& keys) {
  int64_t window = 0;
  for (const AttnSpec* a : attention) window = a != nullptr && a->window > 0 ? a->window : window;
  if (window == 0) return pattern == WindowPattern::kNone;
  keys.add("attention.sliding_window", u32(window));
  if (pattern == WindowPattern::kPeriod) {
    const int64_t period = period_of(attention);
    if (period == 0) return false;
    keys.add("attention.sliding_window_pattern", u32(period));
  }
  if (pattern == WindowPattern::kFlags) {
    std::vector<bool> flags;
    for (const AttnSpec* a : attention) flags.push_back(a != nullptr && a->window > 0);
    keys.add("attention.sliding_window_pattern", flags);
  }
  return true;
}

bool add_attention(const ModelSpec& spec, int64_t context, WindowPattern pattern, Keys& keys) {
  const std::vector<const AttnSpec*> attention = blocks_of<AttnSpec>(spec);
  const AttnSpec* first = first_of(attention);
  if (first == nullptr) return pattern == WindowPattern::kNone;
  std::vector<int64_t> heads, kv_heads;
  for (const AttnSpec* a : attention) {
    heads.push_back(a == nullptr ? first->heads : a->heads);
    kv_heads.push_back(a == nullptr ? 0 : a->kv_heads);
  }
  keys.add_each("attention.head_count", heads);
  keys.add_each("attention.head_count_kv", kv_heads);
  keys.add("attention.key_length", u32(first->head_dim));
  keys.add("attention.value_length", u32(first->v_dim > 0 ? first->v_dim : first->head_dim));
  if (first->softcap > 0) keys.add("attn_logit_softcapping", first->softcap);
  keys.add_if_asked("attention_scale", first->scale);
  keys.add_if_asked("attention_multiplier", first->scale);
  if (first->clip > 0) keys.add_if_asked("clip_qkv", first->clip);
  if (first->alibi > 0) keys.add_if_asked("alibi_bias_max", first->alibi);
  // Layers that see everything tell the rotation; those with windows may have another base.
  const AttnSpec *full = nullptr, *windowed = nullptr;
  for (const AttnSpec* a : attention) {
    if (a == nullptr || a->rope.kind == Kind::kNone) continue;
    if (a->window == 0 && full == nullptr) full = a;
    if (a->window > 0 && windowed == nullptr) windowed = a;
  }
  const AttnSpec* main = full != nullptr ? full : windowed;
  if (main != nullptr) add_rope(main->rope, context, keys);
  if (windowed != nullptr) keys.add_if_asked("rope_local_base_freq", windowed->rope.theta);
  return add_windows(attention, pattern, keys);
}

// Latent attention is stored as attention of one head over the cached vector; `_mla` says what it stands for.
void add_latent(const ModelSpec& spec, int64_t context, Keys& keys) {
  const MlaSpec* a = first_of(blocks_of<MlaSpec>(spec));
  if (a == nullptr) return;
  keys.add("attention.head_count", u32(a->heads));
  keys.add("attention.head_count_kv", u32(1));
  if (a->q_rank > 0) keys.add("attention.q_lora_rank", u32(a->q_rank));
  keys.add("attention.kv_lora_rank", u32(a->kv_rank));
  keys.add("attention.key_length", u32(a->kv_rank + a->rope_dim));
  keys.add("attention.value_length", u32(a->kv_rank));
  keys.add("attention.key_length_mla", u32(a->nope_dim + a->rope_dim));
  keys.add("attention.value_length_mla", u32(a->v_dim));
  RopeSpec rope = a->rope;
  if (rope.kind == Kind::kYarn && rope.factor > 1) {
    const float mscale = std::sqrt(a->scale * std::sqrt(static_cast<float>(a->nope_dim + a->rope_dim)));
    keys.add("rope.scaling.yarn_log_multiplier", (mscale - 1) / std::log(rope.factor));
    rope.attention_factor *= yarn_magnitude(rope.factor);
  }
  add_rope(rope, context, keys);
  if (first_of(blocks_of<MoeFfn>(spec)) == nullptr) {  // asked for by readers even where there are no experts
    keys.add("leading_dense_block_count", u32(std::ssize(spec.layers)));
    keys.add("expert_feed_forward_length", u32(0));
    keys.add("expert_shared_count", u32(0));
  }
}

void add_feed_forward(const ModelSpec& spec, Keys& keys) {
  const std::vector<const MoeFfn*> experts = blocks_of<MoeFfn>(spec);
  const std::vector<const DenseFfn*> dense = blocks_of<DenseFfn>(spec);
  const MoeFfn* moe = first_of(experts);
  const DenseFfn* plain = first_of(dense);
  const int64_t otherwise = plain != nullptr ? plain->ff : moe != nullptr ? moe->expert.ff : 0;
  std::vector<int64_t> widths;
  for (const DenseFfn* ffn : dense) widths.push_back(ffn == nullptr ? otherwise : ffn->ff);
  if (otherwise > 0) keys.add_each("feed_forward_length", widths);
  if (moe == nullptr) return;
  keys.add("expert_count", u32(moe->experts));
  keys.add("expert_used_count", u32(moe->top_k));
  keys.add("expert_feed_forward_length", u32(moe->expert.ff));
  if (moe->shared.ff > 0) {
    keys.add("expert_shared_feed_forward_length", u32(moe->shared.ff));
    if (moe->shared.ff % moe->expert.ff == 0) keys.add("expert_shared_count", u32(moe->shared.ff / moe->expert.ff));
  }
  keys.add_if_asked("norm_topk_prob", moe->renormalise);
  keys.add_if_asked("routed_scaling_factor", moe->scale);
  // As llama.cpp counts them: softmax, sigmoid, softmax over what was chosen.
  using Score = RouteArgs::Score;
  if (moe->score == Score::kSoftmax) keys.add("expert_gating_func", uint32_t{1});
  if (moe->score == Score::kSigmoid) keys.add("expert_gating_func", uint32_t{2});
  if (moe->score == Score::kLogit && moe->softmax_last) keys.add("expert_gating_func", uint32_t{3});
  if (moe->groups > 1) {
    keys.add("expert_group_count", u32(moe->groups));
    keys.add("expert_group_used_count", u32(moe->top_groups));
  }
  const auto leading = std::ranges::find_if(experts, [](const MoeFfn* block) { return block != nullptr; });
  keys.add_if_asked("interleave_moe_layer_step", u32(leading - experts.begin() + 1));
  for (const char* key : {"first_k_dense_replace", "moe_layer_start_index"})
    keys.add_if_asked(key, u32(leading - experts.begin()));
  keys.add_if_asked("moe_layer_interval", uint32_t{1});
}

const NormSpec& any_norm(const ModelSpec& spec) {
  for (const Sublayer& sub : spec.layers.front().sub) {
    for (const NormSpec* norm : {&sub.pre, &sub.post, &sub.after}) {
      if (norm->present) return *norm;
    }
  }
  return spec.final_norm;
}

// ---- comparison -------------------------------------------------------------------------------------------------

void forget_storage(NormSpec& norm) {
  if (!norm.present) norm = {};
  norm.plus_one = false;
}

void forget_storage(RopeSpec& rope) {
  rope.interleaved = false;
  if (rope.kind == Kind::kNone || rope.kind == Kind::kDynamic) return;
  RopeSpec plain;
  plain.kind = Kind::kFactors;
  plain.rot_dim = rope.rot_dim;
  plain.attention_factor = rope.attention_factor;
  plain.backwards = rope.backwards;
  plain.offset = rope.offset;
  plain.factors = inverse_frequencies(rope);
  rope = plain;
}

void forget_storage(DenseFfn& ffn) {
  ffn.pairs = ffn.turned = false;
  forget_storage(ffn.inner_norm);
}

struct ForgetStorage {
  void operator()(AttnSpec& a) const {
    for (NormSpec* norm : {&a.q_norm, &a.k_norm, &a.v_norm, &a.out_norm}) forget_storage(*norm);
    if (a.v_dim == a.head_dim) a.v_dim = 0;
    forget_storage(a.rope);
    a.layout = {};
  }
  void operator()(MoeFfn& moe) const {
    forget_storage(moe.expert);
    if (moe.shared.ff > 0) {
      forget_storage(moe.shared);
    } else {
      moe.shared = {};
    }
    moe.transposed = moe.turned_down = false;
  }
  void operator()(DenseFfn& ffn) const { forget_storage(ffn); }
  void operator()(MlaSpec& a) const {
    for (NormSpec* norm : {&a.q_norm, &a.kv_norm}) forget_storage(*norm);
  }
  void operator()(auto&) const {}
};

Json without_storage(ModelSpec spec) {
  spec.transposed = false;
  spec.head.tied = false;
  spec.dims.context = 0;
  for (NormSpec* norm : {&spec.final_norm, &spec.embed.norm, &spec.head.norm}) forget_storage(*norm);
  for (LayerSpec& layer : spec.layers) {
    for (Sublayer& sub : layer.sub) {
      for (NormSpec* norm : {&sub.pre, &sub.post, &sub.after}) forget_storage(*norm);
      std::visit(ForgetStorage{}, sub.block);
    }
  }
  return parse_json(print_spec(spec), "spec");
}

std::string difference(const Json& wanted, const Json& file, const std::string& path) {
  constexpr double kRounding = 1e-5;
  if (wanted.is_number() && file.is_number()) {
    const double a = wanted.get<double>(), b = file.get<double>();
    if (std::abs(a - b) <= kRounding * std::max(std::abs(a), std::abs(b))) return {};
  } else if (wanted.type() == file.type() && wanted.is_structured() && wanted.size() == file.size()) {
    for (const auto& [key, value] : wanted.items()) {
      const bool there = !file.is_object() || file.contains(key);
      if (!there) return fmt::format("{}: no {}", path, key);
      const Json& other = file.is_object() ? file.at(key) : file.at(std::stoul(key));
      if (std::string found = difference(value, other, path.empty() ? key : path + "." + key); !found.empty())
        return found;
    }
    return {};
  } else if (wanted == file) {
    return {};
  }
  return fmt::format("{}: {} instead of {}", path, file.dump().substr(0, 60), wanted.dump().substr(0, 60));
}

}  // namespace

std::vector<GgufKey> gguf_keys(const ModelSpec& spec, int64_t context, WindowPattern pattern) {
  Keys keys;
  keys.add("block_count", u32(std::ssize(spec.layers)));
  keys.add("context_length", u32(context));
  keys.add("embedding_length", u32(spec.dims.hidden));
  keys.add("vocab_size", u32(spec.dims.vocab));
  const NormSpec& norm = any_norm(spec);
  keys.add(norm.center ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", norm.eps);
  if (norm.center && first_of(blocks_of<MoeFfn>(spec)) != nullptr)  // PhiMoE's readers ask for this
    keys.add("attention.layer_norm_rms_epsilon", norm.eps);
  if (const ShortConvSpec* conv = first_of(blocks_of<ShortConvSpec>(spec)))
    keys.add("shortconv.l_cache", u32(conv->conv));
  add_feed_forward(spec, keys);
  if (spec.head.softcap > 0) keys.add("final_logit_softcapping", spec.head.softcap);
  keys.add_if_asked("embedding_multiplier", spec.embed.alpha);
  keys.add_if_asked("logits_scaling", 1 / spec.head.alpha);
  keys.add_if_asked("logit_scale", spec.head.alpha);
  keys.add_if_asked("residual_multiplier", spec.layers.front().sub.front().scale);
  keys.add_if_asked("use_parallel_residual", spec.layers.front().sub.back().parallel);
  add_latent(spec, context, keys);
  if (!add_attention(spec, context, pattern, keys)) return {};
  return keys.take();
}

std::vector<RopeTable> rope_tables(const ModelSpec& near, const ModelSpec& far) {
  const auto rope_of = [](const ModelSpec& spec) {
    const RopeSpec* found = nullptr;
    for (const AttnSpec* a : blocks_of<AttnSpec>(spec)) {
      const bool better = a != nullptr && (found == nullptr || a->window == 0);
      if (better && (a->rope.kind == Kind::kFactors || a->rope.kind == Kind::kLlama3)) found = &a->rope;
    }
    return found;
  };
  const RopeSpec *short_rope = rope_of(near), *long_rope = rope_of(far);
  if (short_rope == nullptr || long_rope == nullptr) return {};
  if (short_rope->kind == Kind::kFactors) {
    return {{"rope_factors_long.weight", long_rope->factors}, {"rope_factors_short.weight", short_rope->factors}};
  }
  RopeSpec plain = *short_rope;
  plain.kind = Kind::kDefault;
  std::vector<float> factors = inverse_frequencies(plain);
  const std::vector<float> scaled = inverse_frequencies(*short_rope);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return {{"rope_freqs.weight", factors}};
}

std::string first_difference(const ModelSpec& wanted, const ModelSpec& file) {
  return difference(without_storage(wanted), without_storage(file), "");
}

}  // namespace baize
