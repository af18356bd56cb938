#include "model/spec.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

// JSON forms: one macro a struct, so that a new field cannot be printed and not parsed.
namespace baize {

NLOHMANN_JSON_SERIALIZE_ENUM(Activation, {{Activation::kSilu, "silu"},
                                          {Activation::kGelu, "gelu"},
                                          {Activation::kGeluTanh, "gelu_tanh"},
                                          {Activation::kRelu, "relu"},
                                          {Activation::kRelu2, "relu2"},
                                          {Activation::kGeluQuick, "gelu_quick"},
                                          {Activation::kSigmoid, "sigmoid"},
                                          {Activation::kSoftplus, "softplus"},
                                          {Activation::kTanh, "tanh"},
                                          {Activation::kXielu, "xielu"},
                                          {Activation::kIdentity, "identity"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Axis, {{Axis::kHead, "head"}, {Axis::kAll, "all"}, {Axis::kEachHead, "each_head"}})
using QkvOrder = QkvLayout::Order;
NLOHMANN_JSON_SERIALIZE_ENUM(QkvOrder, {{QkvOrder::kQkv, "qkv"}, {QkvOrder::kQvk, "qvk"}})
using PositionKind = EmbedSpec::Positions;
NLOHMANN_JSON_SERIALIZE_ENUM(PositionKind, {{PositionKind::kNone, "none"},
                                            {PositionKind::kLearned, "learned"},
                                            {PositionKind::kSinusoidal, "sinusoidal"}})
using RouterScore = RouteArgs::Score;
NLOHMANN_JSON_SERIALIZE_ENUM(RouterScore, {{RouterScore::kSoftmax, "softmax"},
                                           {RouterScore::kSigmoid, "sigmoid"},
                                           {RouterScore::kSqrtSoftplus, "sqrt_softplus"},
                                           {RouterScore::kLogit, "logit"}})
using RopeKind = RopeSpec::Kind;
NLOHMANN_JSON_SERIALIZE_ENUM(RopeKind, {{RopeKind::kNone, "none"},
                                        {RopeKind::kDefault, "default"},
                                        {RopeKind::kLinear, "linear"},
                                        {RopeKind::kDynamic, "dynamic"},
                                        {RopeKind::kYarn, "yarn"},
                                        {RopeKind::kLlama3, "llama3"},
                                        {RopeKind::kFactors, "factors"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Dims, hidden, vocab, context)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NormSpec, present, eps, plus_one, center, weightless)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RopeSpec, kind, rot_dim, theta, interleaved, factor, original_length, beta_fast,
                                   beta_slow, truncate, low_freq_factor, high_freq_factor, attention_factor, factors,
                                   denominator, backwards, turning, offset)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(QkvLayout, groups, order)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AttnSpec, heads, kv_heads, head_dim, rope, scale, softcap, window, q_norm, k_norm,
                                   v_norm, out_norm, norm_axis, norm_last, v_dim, chunked, clip, alibi, alibi_scale,
                                   k_scale, v_scale, temperature_scale, temperature_length, temperature_offset, gate,
                                   gate_in_q, values_are_keys, differential, keep, kv_from, width, adapter, layout)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(IndexerSpec, top_k, heads, head_dim, rope, k_norm, shared)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MlaSpec, heads, nope_dim, rope_dim, v_dim, q_rank, kv_rank, rope, scale, q_norm,
                                   kv_norm, gated, indexer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CompressedAttnSpec, heads, head_dim, q_rank, window, rope, scale, q_norm, head_norm,
                                   kv_norm, o_groups, o_rank, rate, overlap, indexer)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenseFfn, ff, activation, gated, limit, up_shift, sparsity, inner_norm, gate_scale,
                                   down_scale, pairs, turned, adapter)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MoeFfn, experts, top_k, expert, shared, score, groups, top_groups, group_by_two,
                                   renormalise, norm_min, softmax_last, scale, sparse_mixer, router_softcap,
                                   weigh_input, hashed, shared_scale, routed_scale, router_norm, routed_norm,
                                   routed_post, shared_post, router_scale, transposed, turned_down)
using RecurrenceKind = RecurrenceSpec::Kind;
NLOHMANN_JSON_SERIALIZE_ENUM(RecurrenceKind, {{RecurrenceKind::kStateSpace, "state_space"},
                                              {RecurrenceKind::kDelta, "delta"},
                                              {RecurrenceKind::kChannelDelta, "channel_delta"},
                                              {RecurrenceKind::kLightning, "lightning"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RecurrenceSpec, kind, block, heads, key_heads, key_dim, value_dim, conv, activation,
                                   norm, norm_groups, norm_first, gate, beta_scale, least_step, most_step, in_scale,
                                   out_scale, in_factors)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MambaSpec, width, state, rank, conv, activation, heads, inner_norm, pairs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ShortConvSpec, width, conv)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LruSpec, width, blocks, conv, activation)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RwkvSpec, hidden, width, time)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerInputSpec, width, activation)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AttnExpertsSpec, attention, experts, top_k)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MatrixSpec, width, rank)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EmbedSpec, alpha, width, positions, position_offset, norm, layer_inputs)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HeadSpec, tied, softcap, alpha, norm, activation)

// A block is an object with one member, named after its kind.
template <typename T>
constexpr const char* kBlockName = nullptr;
template <>
constexpr const char* kBlockName<AttnSpec> = "attention";
template <>
constexpr const char* kBlockName<DenseFfn> = "ffn";
template <>
constexpr const char* kBlockName<MlaSpec> = "latent_attention";
template <>
constexpr const char* kBlockName<CompressedAttnSpec> = "compressed_attention";
template <>
constexpr const char* kBlockName<MoeFfn> = "experts";
template <>
constexpr const char* kBlockName<RecurrenceSpec> = "recurrence";
template <>
constexpr const char* kBlockName<MambaSpec> = "mamba";
template <>
constexpr const char* kBlockName<ShortConvSpec> = "short_convolution";
template <>
constexpr const char* kBlockName<LruSpec> = "lru";
template <>
constexpr const char* kBlockName<RwkvSpec> = "rwkv_mixing";
template <>
constexpr const char* kBlockName<LayerInputSpec> = "layer_input";
template <>
constexpr const char* kBlockName<MatrixSpec> = "matrix";
template <>
constexpr const char* kBlockName<AttnExpertsSpec> = "attention_of_experts";
using SublayerInput = Sublayer::Input;
NLOHMANN_JSON_SERIALIZE_ENUM(SublayerInput, {{SublayerInput::kStream, "stream"},
                                             {SublayerInput::kWithEmbedding, "with_embedding"},
                                             {SublayerInput::kGiven, "given"},
                                             {SublayerInput::kStreamAndGiven, "stream_and_given"},
                                             {SublayerInput::kCorrected, "corrected"}})

template <typename... T>
static void read_block(const Json& json, std::variant<T...>& block) {
  const bool known =
      ((json.contains(kBlockName<T>) && (block = json.at(kBlockName<T>).template get<T>(), true)) || ...);
  if (!known) fail(ErrorKind::kCorrupt, "model spec: a sublayer without a block");
}

static void to_json(Json& json, const Sublayer& sub) {
  json = {{"pre", sub.pre},
          {"post", sub.post},
          {"parallel", sub.parallel},
          {"from_normed", sub.from_normed},
          {"alpha", sub.alpha},
          {"scale", sub.scale},
          {"after", sub.after},
          {"input", sub.input},
          {"with_input", sub.with_input},
          {"weights_of", sub.weights_of}};
  std::visit([&](const auto& block) { json[kBlockName<std::decay_t<decltype(block)>>] = block; }, sub.block);
}

static void from_json(const Json& json, Sublayer& sub) {
  json.at("pre").get_to(sub.pre);
  json.at("post").get_to(sub.post);
  json.at("parallel").get_to(sub.parallel);
  json.at("from_normed").get_to(sub.from_normed);
  json.at("alpha").get_to(sub.alpha);
  json.at("scale").get_to(sub.scale);
  json.at("after").get_to(sub.after);
  json.at("input").get_to(sub.input);
  json.at("with_input").get_to(sub.with_input);
  json.at("weights_of").get_to(sub.weights_of);
  read_block(json, sub.block);
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerSpec, sub, scaled)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AltUpSpec, streams, active, scaled)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HyperSpec, streams, mix_rounds, magnitude, eps, post_eps, norm_eps)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelSpec, dims, embed, layers, final_norm, head, altup, transposed, hyper)

std::string print_spec(const ModelSpec& spec) { return Json(spec).dump(2); }

ModelSpec parse_spec(const std::string& text) {
  try {
    return parse_json(text, "model spec").get<ModelSpec>();
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "model spec: {}", e.what());
  }
}

namespace {

constexpr int64_t kMaxDim = int64_t{1} << 24;

void check_range(const char* what, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    fail(ErrorKind::kCorrupt, "the model's {} is {}; it must lie between {} and {}", what, value, low, high);
  }
}

void check_block(const AttnSpec& a) {
  check_range("number of attention heads", a.heads, 1, 1 << 16);
  check_range("number of key-value heads", a.kv_heads, 1, a.heads);
  check_range("head dimension", a.head_dim, 1, 1 << 14);
  check_range("number of keys kept", a.keep, 0, kMaxDim * 256);
  check_range("attention window", a.window, 0, kMaxDim * 256);
  if (a.heads % a.kv_heads != 0) {
    fail(ErrorKind::kCorrupt, "the model's {} attention heads cannot be shared evenly by {} key-value heads", a.heads,
         a.kv_heads);
  }
  if (a.rope.kind != RopeSpec::Kind::kNone) check_range("rotated dimensions", a.rope.rot_dim, 2, a.head_dim);
}

void check_block(const DenseFfn& ffn) { check_range("feed-forward width", ffn.ff, 1, kMaxDim); }

void check_block(const IndexerSpec& i) {
  if (i.top_k == 0) return;
  check_range("number of chosen positions", i.top_k, 1, kMaxDim);
  check_range("number of indexer heads", i.heads, 1, 1 << 16);
  check_range("indexer head dimension", i.head_dim, 1, 1 << 14);
  if (i.rope.kind != RopeSpec::Kind::kNone) {
    check_range("rotated indexer dimensions", i.rope.rot_dim + i.rope.offset, 2, i.head_dim);
  }
}

void check_block(const MlaSpec& a) {
  check_range("number of attention heads", a.heads, 1, 1 << 16);
  check_range("key dimension without position", a.nope_dim, 1, 1 << 14);
  check_range("rotated key dimension", a.rope_dim, 0, 1 << 14);
  check_range("value dimension", a.v_dim, 1, 1 << 14);
  check_range("rank of queries", a.q_rank, 0, kMaxDim);
  check_range("rank of keys and values", a.kv_rank, 1, 1 << 14);
  check_block(a.indexer);
  if (a.indexer.top_k > 0) check_range("rank of the queries that an indexer reads", a.q_rank, 1, kMaxDim);
}

void check_block(const CompressedAttnSpec& a) {
  check_range("number of attention heads", a.heads, 1, 1 << 16);
  check_range("head dimension", a.head_dim, 1, 1 << 14);
  check_range("attention window", a.window, 1, kMaxDim * 256);
  check_range("rank of queries", a.q_rank, 1, kMaxDim);
  check_range("number of groups of attention heads", a.o_groups, 1, a.heads * a.head_dim);
  check_range("rank of a group's output", a.o_rank, 1, kMaxDim);
  check_range("tokens of a compressed key", a.rate, 0, 1 << 14);
  if (a.heads * a.head_dim % a.o_groups != 0) {
    fail(ErrorKind::kCorrupt, "the model's {} attention heads of {} cannot form {} equal groups", a.heads, a.head_dim,
         a.o_groups);
  }
  if (a.rope.kind != RopeSpec::Kind::kNone) {
    check_range("rotated dimensions", a.rope.rot_dim + a.rope.offset, 2, a.head_dim);
  }
  check_block(a.indexer);
}

void check_block(const RecurrenceSpec& r) {
  check_range("number of recurrent heads", r.heads, 1, 1 << 16);
  check_range("number of recurrent key heads", r.key_heads, 1, r.heads);
  check_range("recurrent key dimension", r.key_dim, 1, 1 << 14);
  check_range("recurrent value dimension", r.value_dim, 1, 1 << 14);
  check_range("convolution width", r.conv, 0, 1 << 10);
  check_range("recurrent block", r.block, 0, 1 << 16);
  check_range("number of norm groups", r.norm_groups, 1, r.heads * r.value_dim);
  if (r.heads % r.key_heads != 0 || r.heads * r.value_dim % r.norm_groups != 0) {
    fail(ErrorKind::kCorrupt,
         "the model's {} recurrent heads cannot be shared evenly by {} key heads or {} norm groups", r.heads,
         r.key_heads, r.norm_groups);
  }
}

void check_block(const MambaSpec& m) {
  check_range("Mamba width", m.width, 1, kMaxDim);
  check_range("Mamba state size", m.state, 1, 1 << 14);
  check_range("Mamba step rank", m.rank, 1, kMaxDim);
  check_range("number of Mamba heads", m.heads, 1, m.width);
  if (m.width % m.heads != 0) {
    fail(ErrorKind::kCorrupt, "the model's Mamba width {} cannot be cut into {} heads", m.width, m.heads);
  }
  check_range("convolution width", m.conv, 1, 1 << 10);
}

void check_block(const ShortConvSpec& c) {
  check_range("convolution channels", c.width, 1, kMaxDim);
  check_range("convolution width", c.conv, 2, 1 << 10);  // of 1 it would remember nothing
}

void check_block(const LruSpec& r) {
  check_range("recurrent width", r.width, 1, kMaxDim);
  check_range("number of recurrent blocks", r.blocks, 1, r.width);
  check_range("convolution width", r.conv, 1, 1 << 10);
  if (r.width % r.blocks != 0) {
    fail(ErrorKind::kCorrupt, "the model's recurrent width {} cannot be cut into {} blocks", r.width, r.blocks);
  }
}

void check_block(const RwkvSpec& r) {
  check_range("hidden size", r.hidden, 1, kMaxDim);
  check_range("mixing width", r.width, 1, kMaxDim);
}

void check_block(const LayerInputSpec& l) { check_range("width of the layers' inputs", l.width, 1, kMaxDim); }

void check_block(const MatrixSpec& m) {
  check_range("width of a matrix", m.width, 1, kMaxDim);
  check_range("rank of a matrix", m.rank, 0, kMaxDim);
}

void check_block(const AttnExpertsSpec& a) {
  check_block(a.attention);
  check_range("number of attention experts", a.experts, 1, 1 << 16);
  check_range("number of attention experts a token", a.top_k, 1, a.experts);
  if (a.attention.heads != a.top_k * a.attention.kv_heads) {
    fail(ErrorKind::kCorrupt, "the model's {} attention heads are not {} key-value heads for each of {} experts",
         a.attention.heads, a.attention.kv_heads, a.top_k);
  }
}

void check_block(const MoeFfn& moe) {
  check_range("number of experts", moe.experts, 1, 1 << 16);
  check_range("number of experts a token", moe.top_k, 1, moe.experts);
  check_range("expert width", moe.expert.ff, 1, kMaxDim);
  check_range("shared expert width", moe.shared.ff, 0, kMaxDim);
  check_range("number of expert groups", moe.groups, 1, moe.experts);
  check_range("number of expert groups a token", moe.top_groups, 0, moe.groups);
  if (moe.experts % moe.groups != 0) {
    fail(ErrorKind::kCorrupt, "the model's {} experts cannot form {} equal groups", moe.experts, moe.groups);
  }
}

}  // namespace

void check_spec(const ModelSpec& spec) {
  check_range("hidden size", spec.dims.hidden, 1, kMaxDim);
  check_range("vocabulary", spec.dims.vocab, 1, kMaxDim);
  check_range("context length", spec.dims.context, 1, int64_t{1} << 31);
  check_range("number of residual streams", spec.altup.streams, 0, 1 << 10);
  check_range("active residual stream", spec.altup.active, 0, std::max<int64_t>(0, spec.altup.streams - 1));
  check_range("number of layers", static_cast<int64_t>(spec.layers.size()), 1, 4096);
  check_range("number of residual streams", spec.hyper.streams, 1, 64);
  check_range("rounds of mixing residual streams", spec.hyper.mix_rounds, 0, 1 << 10);
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) {
      check_range("layer of shared weights", sub.weights_of, -1, static_cast<int64_t>(spec.layers.size()) - 1);
      std::visit([](const auto& block) { check_block(block); }, sub.block);
    }
  }
}

}  // namespace baize
