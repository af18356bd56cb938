#include "model/gguf_mix.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "base/text.h"

namespace baize {

namespace {

// File types are llama.cpp's (llama_ftype); the K types alone stand under its _S mixes.
const std::array<GgufMix, 17> kMixes = {{
    {"f32", GgufType::kF32, 0},
    {"f16", GgufType::kF16, 1},
    {"bf16", GgufType::kBF16, 32},
    {"q8_0", GgufType::kQ8_0, 7},
    {"q4_0", GgufType::kQ4_0, 2},
    {"q4_1", GgufType::kQ4_1, 3},
    {"q5_0", GgufType::kQ5_0, 8},
    {"q5_1", GgufType::kQ5_1, 9},
    {"q2_k", GgufType::kQ2_K, 10},
    {"q3_k", GgufType::kQ3_K, 11},
    {"q4_k", GgufType::kQ4_K, 14},
    {"q5_k", GgufType::kQ5_K, 16},
    {"q6_k", GgufType::kQ6_K, 18},
    {"iq4_nl", GgufType::kIQ4_NL, 25},
    {"iq4_xs", GgufType::kIQ4_XS, 30},
    {"mxfp4", GgufType::kMXFP4, 38},
    {"q4_k_m", GgufType::kQ4_K, 15, true},
}};

}  // namespace

bool keeps_more_bits(int64_t layer, int64_t layers) {
  const int64_t eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

std::string mix_names() {
  std::string names;
  for (const GgufMix& mix : kMixes) names += (names.empty() ? "" : ", ") + mix.name;
  return names;
}

const GgufMix& find_mix(const std::string& name) {
  std::string lower = name;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const GgufMix& mix : kMixes) {
    if (mix.name == lower) return mix;
  }
  fail(ErrorKind::kInvalidArgument, "there is no weight type \"{}\"; the known ones are {}", name, mix_names());
}

GgufType mix_type(const GgufMix& mix, const MixPlace& place) {
  if (is_plain(mix.type)) return mix.type;
  if (place.is_head) return mix.type == GgufType::kQ8_0 ? mix.type : GgufType::kQ6_K;
  if (!mix.more_bits) return mix.type;
  const auto is = [&](auto... names) { return ((place.stem == names) || ...); };
  const bool more = keeps_more_bits(place.layer, place.layers);
  if (is("attn.qkv")) return GgufType::kQ5_K;
  if (place.experts == 8 && is("attn.k", "attn.v")) return GgufType::kQ8_0;
  if (place.experts == 8 && is("attn.o")) return GgufType::kQ5_K;
  if (more && is("attn.v", "ffn.down", "moe.all.down", "moe.shared.down")) return GgufType::kQ6_K;
  return mix.type;
}

GgufType fitting_type(GgufType wanted, int64_t k) {
  const auto fits = [&](GgufType type) { return k % gguf_type_info(type).block_elems == 0; };
  if (fits(wanted)) return wanted;
  GgufType other = GgufType::kF16;
  switch (wanted) {
    case GgufType::kQ2_K:
    case GgufType::kQ3_K:
      other = GgufType::kQ4_0;
      break;
    case GgufType::kQ4_K:
      other = GgufType::kQ5_0;
      break;
    case GgufType::kQ5_K:
      other = GgufType::kQ5_1;
      break;
    case GgufType::kQ6_K:
      other = GgufType::kQ8_0;
      break;
    case GgufType::kIQ4_XS:
      other = GgufType::kIQ4_NL;
      break;
    default:
      break;
  }
  return fits(other) ? other : GgufType::kF16;
}

}  // namespace baize
