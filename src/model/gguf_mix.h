// Which weight type each tensor of a GGUF file gets: one type for all matrices, or llama.cpp's mixes of several. What
// is not a matrix, norms, routers and tables of positions stay f32. Pure data and functions; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gguf_type.h"

namespace baize {

struct GgufMix {
  std::string name;        // "q4_k_m", as given to --type
  GgufType type;           // of most matrices
  uint32_t file_type;      // general.file_type
  bool more_bits = false;  // some matrices get a wider type, as in llama.cpp's _M mixes
};

/// By name, in any case. Throws Error(kInvalidArgument) with the known names.
const GgufMix& find_mix(const std::string& name);
/// "f32, f16, ..."
std::string mix_names();

/// The layers whose v and down matrices get more bits in such a mix: the first and last eighths, and every third
/// between.
bool keeps_more_bits(int64_t layer, int64_t layers);

struct MixPlace {
  std::string_view stem;  // canonical: "attn.v"
  int64_t layer = -1, layers = 0;
  int64_t experts = 0;   // of the model; 0: it has none
  bool is_head = false;  // the head's matrix, or the table that is the head too
};

/// The type for a matrix, before it is known whether its rows divide.
GgufType mix_type(const GgufMix& mix, const MixPlace& place);

/// `wanted` where its blocks divide rows of `k`, else what llama.cpp falls back to: Q4_0 for Q2_K and Q3_K, Q5_0 for
/// Q4_K, Q5_1 for Q5_K, Q8_0 for Q6_K, IQ4_NL for IQ4_XS, and F16 where blocks of 32 do not divide either.
GgufType fitting_type(GgufType wanted, int64_t k);

}  // namespace baize
