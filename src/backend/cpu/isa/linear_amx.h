// Matrix kernels on AMX-BF16 tiles, for many rows of x: a panel of weights is dequantised (or transposed) once into the
// layout that tdpbf16ps takes, pairs along k side by side, and multiplied by x in bf16. Sums are f32. The tile
// registers are configured and released within a call. Any thread that may use AMX (isa.cc asks the system).
#pragma once

#include "backend/cpu/isa/linear_float.h"

namespace baize::cpu::BAIZE_ISA {

// Two rows of 16 floats, weights k and k + 1, as bf16 [16][2].
BAIZE_INLINE void store_bf16_pairs(Floats even, Floats odd, uint16_t* out) {
  const __m512bh both = _mm512_cvtne2ps_pbh(odd.v, even.v);  // even in the low half
  __m512i words;
  __builtin_memcpy(&words, &both, sizeof(words));
  const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words));
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(words, 1)), 16);
  _mm512_storeu_si512(out, _mm512_or_si512(low, high));
}

// floats [k][16] to bf16 [k / 2][16][2], k even.
inline void pair_panel(const float* panel, int64_t k, uint16_t* out) {
  for (int64_t i = 0; i < k; i += 2, panel += 32, out += 32) {
    store_bf16_pairs(load_floats(panel), load_floats(panel + 16), out);
  }
}

inline constexpr int64_t kPairStretch = 256;  // k of the f32 stop-over: 16 KB

template <class T>
void dequantize_pairs(const uint8_t* panel, int64_t k_begin, int64_t k_end, uint16_t* out) {
  alignas(64) float floats[kPairStretch * 16];
  for (int64_t i = k_begin; i < k_end; i += kPairStretch) {
    const int64_t end = i + kPairStretch < k_end ? i + kPairStretch : k_end;
    dequantize<T>(panel, i, end, floats);
    pair_panel(floats, end - i, out);
    out += 16 * (end - i);
  }
}

// `padded` >= k: a multiple of 32, the weights past k are zero.
template <class P>
void transpose_pairs(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, int64_t padded, uint16_t* out) {
  alignas(64) float floats[kPairStretch * 16];
  for (int64_t i = 0; i < padded; i += kPairStretch) {
    const int64_t count = padded - i < kPairStretch ? padded - i : kPairStretch;
    const int64_t known = k - i < count ? k - i : count;
    transpose<P>(w + i * P::kBytes, row_bytes, rows, known, floats);
    for (int64_t j = known; j < count; ++j) store_floats(floats + 16 * j, splat(0));
    pair_panel(floats, count, out);
    out += 16 * count;
  }
}

// One row of x as bf16, zeros up to `padded` (a multiple of 32).
inline void to_bf16(const float* x, int64_t k, int64_t padded, uint16_t* out) {
  for (int64_t i = 0; i < padded; i += 16) {
    const int64_t known = k - i < 0 ? 0 : k - i < 16 ? k - i : 16;
    const auto mask = static_cast<__mmask16>((1u << known) - 1);
    const __m256bh b = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
    __builtin_memcpy(out + i, &b, sizeof(b));
  }
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Tiles: 0-3 sums (columns 0-15 and 16-31 of x times panel 0, then panel 1), 4-5 x, 6-7 weights.
template <int Panels>
BAIZE_INLINE void tile_block(const uint16_t* w, int64_t w_stride, int64_t k, const uint16_t* x, int64_t x_stride,
                             float* out, int64_t out_stride, bool first) {
  float* second = out + out_stride;
  const auto x_bytes = static_cast<long>(2 * x_stride);
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (Panels == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  } else {
    _tile_loadd(0, out, 64);
    _tile_loadd(1, out + 256, 64);
    if constexpr (Panels == 2) {
      _tile_loadd(2, second, 64);
      _tile_loadd(3, second + 256, 64);
    }
  }
  for (int64_t i = 0; i < k; i += 32) {
    _tile_loadd(6, w + 16 * i, 64);
    _tile_loadd(4, x + i, x_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, x + 16 * x_stride + i, x_bytes);
    _tile_dpbf16ps(1, 5, 6);
    if constexpr (Panels == 2) {
      _tile_loadd(7, w + w_stride + 16 * i, 64);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, out, 64);
  _tile_stored(1, out + 256, 64);
  if constexpr (Panels == 2) {
    _tile_stored(2, second, 64);
    _tile_stored(3, second + 256, 64);
  }
}

inline void gemm_tiles(const uint16_t* w, int64_t w_stride, int panels, int64_t k, const uint16_t* x, int64_t x_stride,
                       int64_t cols, float* out, int64_t out_stride, bool first) {
  const TileConfig config;
  _tile_loadconfig(&config);
  for (int64_t c = 0; c < cols; c += 32, x += 32 * x_stride, out += 32 * 16) {
    if (panels == 2) {
      tile_block<2>(w, w_stride, k, x, x_stride, out, out_stride, first);
    } else {
      tile_block<1>(w, w_stride, k, x, x_stride, out, out_stride, first);
    }
  }
  _tile_release();
}

}  // namespace baize::cpu::BAIZE_ISA
