// The layouts that the matrix kernels share, and the table of leaf functions that each ISA variant exports. Plain data
// and constants only: this header is compiled into every variant of isa/ (see isa.h). Immutable facts; any thread.
//
// Packed weights ("x16"). Rows are taken 16 at a time (a panel; rows past n are zero bytes). Within a panel the
// k-blocks of the stored type follow each other; block b of a panel holds the 16 rows' blocks b, rearranged into the
// same number of bytes. The unit is a "quad": for one group of 32 weights along k, quad j (0-7) is 64 bytes of which
// byte 4 r + i belongs to row r and weight 4 j + i: a vector of dwords, one a row, that dot-product instructions take
// as it is. Fields narrower than a byte are stored at these places:
//   nibbles   4 x 64 B   byte p of chunk c: quad c in the low nibble, quad c + 4 in the high one
//   twos      2 x 64 B   byte p of chunk c: quads 4 c .. 4 c + 3 from the low bits up
//   ones      1 x 64 B   bit j of byte p: quad j
//   bytes     8 x 64 B   chunk j: quad j, as unsigned value + 128
// Scales of the 16 rows stand side by side. Per type (sizes are 16 times the stored block):
//   Q4_0, IQ4_NL  d[16] f16, nibbles            Q4_1   d[16], m[16] f16, nibbles
//   Q5_0   d[16], ones, nibbles                 Q5_1   d[16], m[16], ones, nibbles
//   Q8_0   d[16], bytes                         MXFP4  e[16] u8, nibbles
//   Q2_K   d[16], dmin[16], 16 x sc|mn<<4 [16] u8, 8 x twos
//   Q3_K   d[16], sixes(16), 8 x {twos, ones}
//   Q4_K   d[16], dmin[16], pairs, 8 x nibbles
//   Q5_K   d[16], dmin[16], pairs, 8 x {ones, nibbles}
//   Q6_K   d[16], 16 x sc[16] i8, 8 x {twos, nibbles}
//   IQ4_XS d[16], sixes(8), 8 x nibbles
//   pairs: six-bit (sc, mn) of 8 groups: 8 x [16] bytes sc low four | mn low four << 4, then 4 x [16] bytes whose
//          nibble g / 4 of byte vector g % 4 is sc high two | mn high two << 2
//   sixes(G): six-bit sc of G groups: G / 2 x [16] bytes, nibble g / (G / 2) of vector g % (G / 2): the low four bits;
//   then
//          G / 4 x [16] bytes, bits 2 (g / (G / 4)) of vector g % (G / 4): the upper two
//
// Quantised activations. `cols` rows of x (a tile; at most IsaLinear::tile, the last tile of a matrix may have fewer)
// are stored together, group by group of 32 along k: 8 quads of [cols][4] i8, [cols] f32 scales, then `subs` times
// [cols] corrections. A correction of half-group (or group) s is, for a type with an offset, -offset * sum of its
// int8 values as i32; for a type with minima, scale * that sum as f32.
#pragma once

#include <cstdint>

namespace baize::cpu {

inline constexpr int kPanelRows = 16;
inline constexpr int kGroup = 32;  // weights along k that share one activation scale

/// How one stored block type is computed with.
enum QuantType : int {
  kQuantQ4_0,
  kQuantQ4_1,
  kQuantQ5_0,
  kQuantQ5_1,
  kQuantQ8_0,
  kQuantQ2_K,
  kQuantQ3_K,
  kQuantQ4_K,
  kQuantQ5_K,
  kQuantQ6_K,
  kQuantIQ4_NL,
  kQuantIQ4_XS,
  kQuantMXFP4,
  kQuantTypes
};

enum PlainType : int { kPlainF32, kPlainF16, kPlainBF16, kPlainTypes };

/// How activations are quantised for a weight type.
struct ActLayout {
  int subs;    // corrections a group: 1, or 2 where weight scales change every 16 weights
  int offset;  // > 0: stored weights are value + offset; 0: weights have minima (or neither)
};

constexpr int64_t act_group_bytes(int cols, int subs) { return int64_t{cols} * (kGroup + 4 + 4 * subs); }

/// Leaf functions of one quantised type. `panel` points at packed weights of 16 rows; k is a multiple of the block.
struct QuantLeaf {
  ActLayout act;
  /// out[16] = the panel times one quantised row (a tile of one column).
  void (*gemv)(const uint8_t* panel, int64_t k, const uint8_t* act, float* out);
  /// out[cols][16] = the panel times the columns of consecutive tiles.
  void (*gemm)(const uint8_t* panel, int64_t k, const uint8_t* act, int64_t cols, float* out);
  /// Exact f32 weights k_begin <= i < k_end (multiples of the block) as out[k_end - k_begin][16].
  void (*dequantize)(const uint8_t* panel, int64_t k_begin, int64_t k_end, float* out);
};

/// Leaf functions of one plain type. `rows` (1-16) stored rows of k elements, `row_bytes` apart, at any alignment.
struct PlainLeaf {
  /// out[cols][16] = rows times `cols` rows of x, dot product by dot product; entries of absent rows are unspecified.
  void (*dot)(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, const float* x, int64_t x_stride, int64_t cols,
              float* out);
  /// Transposes into out[k][16] f32; absent rows become zero.
  void (*transpose)(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, float* out);
};

/// Leaf functions of a variant with matrix tiles, in bf16. Null functions: the variant has none.
struct TileLeaf {
  /// Weights k_begin <= i < k_end of a packed panel as bf16 pairs [k / 2][16][2].
  void (*dequantize[kQuantTypes])(const uint8_t* panel, int64_t k_begin, int64_t k_end, uint16_t* out);
  /// The same from 1-16 stored rows, with zeros from k up to `padded`, a multiple of 32.
  void (*transpose[kPlainTypes])(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, int64_t padded,
                                 uint16_t* out);
  /// One row of x, with zeros from k up to `padded`.
  void (*to_bf16)(const float* x, int64_t k, int64_t padded, uint16_t* out);
  /// out[panels][cols][16] (`out_stride` between panels) = (first) or += w times x, for 1-2 panels `w_stride` apart, k
  /// a multiple of 32 and cols of 32.
  void (*gemm)(const uint16_t* w, int64_t w_stride, int panels, int64_t k, const uint16_t* x, int64_t x_stride,
               int64_t cols, float* out, int64_t out_stride, bool first);
};

/// What an ISA variant exports as `baize::cpu::<isa>::kLinear`.
struct IsaLinear {
  const char* name;
  int tile;  // columns of a full tile of quantised activations
  QuantLeaf quant[kQuantTypes];
  PlainLeaf plain[kPlainTypes];
  PlainLeaf fp8;  // e4m3 as it is: the scales of rows are applied by the caller
  /// Quantises `cols` (1..tile) rows of x, k elements each, `x_stride` apart, into one tile.
  void (*quantize)(const float* x, int64_t x_stride, int cols, int64_t k, ActLayout layout, uint8_t* tile);
  /// out[cols][16] += sum over i < k of w[i][16] * x[col][i].
  void (*gemm_f32)(const float* w, int64_t k, const float* x, int64_t x_stride, int64_t cols, float* out);
  /// values[16 n] = cap * tanh(values / cap).
  void (*softcap)(float* values, int64_t n, float cap);
  TileLeaf tiles;
};

}  // namespace baize::cpu
