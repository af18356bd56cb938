// The block layouts of GGUF's quantised weight types, as plain structs over the mapped file, and the small tables they
// share. Little endian. What a block's bytes mean is defined by dequantize_row (ops/dequant.h). Facts only; any thread.
// Source: the GGUF specification; the layouts equal those that the `gguf` Python package reads. MXFP4 is the OCP
// Microscaling (MX) v1.0 FP4 format. GGUF aligns every tensor to at least 8 bytes, so the 16-bit fields are aligned.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "tensor/gguf_type.h"

namespace baize {

// ---- blocks of 32 weights: weight i and i + 16 share byte i of qs (low and high nibble) -------------------------
struct BlockQ4_0 {  // w = d (q - 8)
  uint16_t d;       // f16
  uint8_t qs[16];
};
struct BlockQ4_1 {  // w = d q + m
  uint16_t d, m;    // f16
  uint8_t qs[16];
};
struct BlockQ5_0 {  // w = d (q - 16); bit i of qh is the fifth bit of weight i
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {  // w = d q + m
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // w = d q
  uint16_t d;
  int8_t qs[32];
};
struct BlockIQ4_NL {  // w = d kIq4Values[q]
  uint16_t d;
  uint8_t qs[16];
};
struct BlockMXFP4 {  // w = e8m0_half(e) kMxfp4Values[q]
  uint8_t e;
  uint8_t qs[16];
};

// ---- super-blocks of 256 weights --------------------------------------------------------------------------------
struct BlockQ2_K {     // 16 groups of 16: w = (d sc) q - (dmin mn)
  uint8_t scales[16];  // sc in the low nibble, mn in the high one
  uint8_t qs[64];      // two halves of 128 weights: 32 bytes hold 4 x 32 weights, two bits each, low bits first
  uint16_t d, dmin;
};
struct BlockQ3_K {     // 16 groups of 16: w = d (sc - 32) (q - 4)
  uint8_t hmask[32];   // bit j of byte l: the third bit of weight 32 j + l
  uint8_t qs[64];      // the two low bits, as in Q2_K
  uint8_t scales[12];  // 16 six-bit scales: nibbles in bytes 0-7, the upper two bits in bytes 8-11
  uint16_t d;
};
struct BlockQ4_K {  // 8 groups of 32: w = (d sc) q - (dmin mn)
  uint16_t d, dmin;
  uint8_t scales[12];  // 8 six-bit (sc, mn) pairs, see q4_k_scale_min
  uint8_t qs[128];     // 32 bytes hold groups 2 j (low nibbles) and 2 j + 1 (high nibbles)
};
struct BlockQ5_K {  // as Q4_K with a fifth bit: bit g of qh[l] for weight l of group g
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
struct BlockQ6_K {  // 16 groups of 16: w = (d sc) (q - 32)
  uint8_t ql[128];  // low four bits: two halves of 128 weights; 64 bytes hold weights 0-63 low, 64-127 high
  uint8_t qh[64];   // upper two bits: 32 bytes a half, weights l, l + 32, l + 64, l + 96 in bits 0, 2, 4, 6
  int8_t scales[16];
  uint16_t d;
};
struct BlockIQ4_XS {  // 8 groups of 32: w = d (sc - 32) kIq4Values[q]
  uint16_t d;
  uint16_t scales_h;    // upper two bits of sc of group g at bits 2 g
  uint8_t scales_l[4];  // lower four bits: group 2 j in the low nibble of byte j, 2 j + 1 in the high one
  uint8_t qs[128];      // 16 bytes a group, laid out as IQ4_NL
};

/// Code points of IQ4_NL and IQ4_XS.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// Twice the FP4 (E2M1) code points, so that they are integers; the block scale is halved in turn.
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// Half the value 2^(e - 127) of an E8M0 scale: 2^(e - 128), subnormal for e < 2.
constexpr float e8m0_half(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

struct ScaleMin {
  uint8_t scale, min;  // six bits each
};

/// The (scale, min) pair of group `g` (0-7) in the 12 packed bytes of Q4_K and Q5_K.
constexpr ScaleMin q4_k_scale_min(const uint8_t* packed, int g) {
  if (g < 4) return {static_cast<uint8_t>(packed[g] & 63), static_cast<uint8_t>(packed[g + 4] & 63)};
  return {static_cast<uint8_t>((packed[g + 4] & 0x0f) | ((packed[g - 4] >> 6) << 4)),
          static_cast<uint8_t>((packed[g + 4] >> 4) | ((packed[g] >> 6) << 4))};
}

static_assert(std::endian::native == std::endian::little, "GGUF blocks are read in place");
static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34 && sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockMXFP4) == 17 && sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_XS) == 136);
static_assert(std::is_trivially_copyable_v<BlockQ4_K> && std::is_standard_layout_v<BlockQ4_K>);

}  // namespace baize
