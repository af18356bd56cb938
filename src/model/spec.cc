#include "model/spec.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"

// JSON forms: one macro a struct, so that a new field cannot be printed and not parsed.
namespace baize {

NLOHMANN_JSON_SERIALIZE_ENUM(Activation, {{Activation::kSilu, "silu"},
                                          {Activation::kGelu, "gelu"},
                                          {Activation::kGeluTanh, "gelu_tanh"},
                                          {Activation::kRelu, "relu"}})
using RopeKind = RopeSpec::Kind;
NLOHMANN_JSON_SERIALIZE_ENUM(RopeKind, {{RopeKind::kNone, "none"},
                                        {RopeKind::kDefault, "default"},
                                        {RopeKind::kLinear, "linear"},
                                        {RopeKind::kDynamic, "dynamic"},
                                        {RopeKind::kYarn, "yarn"},
                                        {RopeKind::kLlama3, "llama3"},
                                        {RopeKind::kFactors, "factors"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Dims, hidden, vocab, context)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NormSpec, present, eps, plus_one)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RopeSpec, kind, rot_dim, theta, interleaved, factor, original_length, beta_fast,
                                   beta_slow, truncate, low_freq_factor, high_freq_factor, attention_factor, factors)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AttnSpec, heads, kv_heads, head_dim, rope, scale, softcap, window, q_norm, k_norm)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenseFfn, ff, activation)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(EmbedSpec, alpha)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HeadSpec, tied, softcap)

// A block is an object with one member, named after its kind.
static void to_json(Json& json, const Sublayer& sub) {
  json = {{"pre", sub.pre}, {"post", sub.post}};
  if (const auto* attention = std::get_if<AttnSpec>(&sub.block)) json["attention"] = *attention;
  if (const auto* ffn = std::get_if<DenseFfn>(&sub.block)) json["ffn"] = *ffn;
}

static void from_json(const Json& json, Sublayer& sub) {
  json.at("pre").get_to(sub.pre);
  json.at("post").get_to(sub.post);
  if (json.contains("attention")) {
    sub.block = json.at("attention").get<AttnSpec>();
  } else {
    sub.block = json.at("ffn").get<DenseFfn>();
  }
}

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LayerSpec, sub)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ModelSpec, dims, embed, layers, final_norm, head)

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
  check_range("attention window", a.window, 0, kMaxDim * 256);
  if (a.heads % a.kv_heads != 0) {
    fail(ErrorKind::kCorrupt, "the model's {} attention heads cannot be shared evenly by {} key-value heads", a.heads,
         a.kv_heads);
  }
  if (a.rope.kind != RopeSpec::Kind::kNone) check_range("rotated dimensions", a.rope.rot_dim, 2, a.head_dim);
}

void check_block(const DenseFfn& ffn) { check_range("feed-forward width", ffn.ff, 1, kMaxDim); }

}  // namespace

void check_spec(const ModelSpec& spec) {
  check_range("hidden size", spec.dims.hidden, 1, kMaxDim);
  check_range("vocabulary", spec.dims.vocab, 1, kMaxDim);
  check_range("context length", spec.dims.context, 1, int64_t{1} << 31);
  check_range("number of layers", static_cast<int64_t>(spec.layers.size()), 1, 4096);
  for (const LayerSpec& layer : spec.layers) {
    for (const Sublayer& sub : layer.sub) std::visit([](const auto& block) { check_block(block); }, sub.block);
  }
}

}  // namespace baize
