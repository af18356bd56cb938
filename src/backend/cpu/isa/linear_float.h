// Matrix kernels in f32: exact dequantisation of packed weights and transposition of plain ones into panels [k][16],
// the f32 micro-kernel on panels, and dot products along stored rows of plain weights for few columns. Any thread.
#pragma once

#include "backend/cpu/isa/linear_types.h"

namespace baize::cpu::BAIZE_ISA {

// ---- quantised weights as f32 ----
// The operations and their order are those of dequantize_row, so the floats are the same.
template <class T, int I>
BAIZE_INLINE Floats weight(Bytes q, Floats scale, Floats min) {
  const Floats value = floats_of_byte<I>(q);
  if constexpr (T::kMin) return scale * value + min;
  return scale * (value - splat(T::kOffset));
}

template <class T, int J>
BAIZE_INLINE void dequantize_quads(const uint8_t* b, int g, const Floats* scale, const Floats* min,
                                   float* __restrict out) {
  constexpr int kSub = J * T::kSubs / 8;
  const Bytes q = T::template quad<J>(b, g);
  store_floats(out + 16 * (4 * J + 0), weight<T, 0>(q, scale[kSub], min[kSub]));
  store_floats(out + 16 * (4 * J + 1), weight<T, 1>(q, scale[kSub], min[kSub]));
  store_floats(out + 16 * (4 * J + 2), weight<T, 2>(q, scale[kSub], min[kSub]));
  store_floats(out + 16 * (4 * J + 3), weight<T, 3>(q, scale[kSub], min[kSub]));
  if constexpr (J < 7) dequantize_quads<T, J + 1>(b, g, scale, min, out);
}

template <class T, int S>
BAIZE_INLINE void load_factors(const uint8_t* b, int g, Floats* scale, Floats* min) {
  scale[S] = scale_of<T, S>(b, g);
  if constexpr (T::kMin) {
    min[S] = min_of<T, S>(b, g);
  } else {
    min[S] = scale[S];
  }
  if constexpr (S + 1 < T::kSubs) load_factors<T, S + 1>(b, g, scale, min);
}

template <class T>
void dequantize(const uint8_t* panel, int64_t k_begin, int64_t k_end, float* out) {
  panel += k_begin / T::kBlock * T::kBytes;
  for (int64_t i = k_begin; i < k_end; i += T::kBlock, panel += T::kBytes) {
    for (int g = 0; g < T::kBlock / kGroup; ++g, out += 16 * kGroup) {
      Floats scale[T::kSubs], min[T::kSubs];
      load_factors<T, 0>(panel, g, scale, min);
      dequantize_quads<T, 0>(panel, g, scale, min, out);
    }
  }
}

// ---- panels ----
template <int C>
BAIZE_INLINE void gemm_f32_tile(const float* w, int64_t k, const float* x, int64_t x_stride, float* out) {
  Floats acc[C];
  BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[c] = load_floats(out + 16 * c);
  for (int64_t i = 0; i < k; ++i) {
    const Floats row = load_floats(w + 16 * i);
    BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[c] = fma(row, splat(x[c * x_stride + i]), acc[c]);
  }
  BAIZE_UNROLL for (int c = 0; c < C; ++c) store_floats(out + 16 * c, acc[c]);
}

template <int C>
BAIZE_INLINE void gemm_f32_rest(const float* w, int64_t k, const float* x, int64_t x_stride, int64_t cols, float* out) {
  if constexpr (C > 0) {
    if (cols == C) return gemm_f32_tile<C>(w, k, x, x_stride, out);
    gemm_f32_rest<C - 1>(w, k, x, x_stride, cols, out);
  }
}

inline void gemm_f32(const float* w, int64_t k, const float* x, int64_t x_stride, int64_t cols, float* out) {
  for (; cols >= kTileF32; cols -= kTileF32, x += kTileF32 * x_stride, out += 16 * kTileF32) {
    gemm_f32_tile<kTileF32>(w, k, x, x_stride, out);
  }
  gemm_f32_rest<kTileF32 - 1>(w, k, x, x_stride, cols, out);
}

// ---- plain weights ----
struct PlainF32 {
  static constexpr int kBytes = 4;
  static BAIZE_INLINE Vec load(const uint8_t* p) { return load_vec(reinterpret_cast<const float*>(p)); }
};
struct PlainF16 {
  static constexpr int kBytes = 2;
  static BAIZE_INLINE Vec load(const uint8_t* p) { return load_vec_f16(p); }
};
struct PlainBF16 {
  static constexpr int kBytes = 2;
  static BAIZE_INLINE Vec load(const uint8_t* p) { return load_vec_bf16(p); }
};

struct PlainF8 {  // e4m3, without its scales
  static constexpr int kBytes = 1;
  static BAIZE_INLINE Vec load(const uint8_t* p) { return load_vec_f8(p); }
};

// The last k % kLanes elements, filled up with zeros.
template <class P>
BAIZE_INLINE Vec load_tail(const uint8_t* p, int64_t count) {
  alignas(64) uint8_t buffer[kLanes * 4] = {};
  __builtin_memcpy(buffer, p, static_cast<unsigned long>(count * P::kBytes));
  return P::load(buffer);
}
BAIZE_INLINE Vec load_tail_x(const float* x, int64_t count) {
  return load_tail<PlainF32>(reinterpret_cast<const uint8_t*>(x), count);
}

// out[C][16], entries row .. row + R: R rows of weights times C rows of x.
template <class P, int R, int C>
BAIZE_INLINE void dot_tile(const uint8_t* w, int64_t row_bytes, int64_t k, const float* x, int64_t x_stride,
                           float* out) {
  Vec acc[R][C];
  BAIZE_UNROLL for (int r = 0; r < R; ++r) { BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[r][c] = vec_zero(); }
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    Vec xs[C];
    BAIZE_UNROLL for (int c = 0; c < C; ++c) xs[c] = load_vec(x + c * x_stride + i);
    BAIZE_UNROLL for (int r = 0; r < R; ++r) {
      const Vec v = P::load(w + r * row_bytes + i * P::kBytes);
      BAIZE_UNROLL for (int c = 0; c < C; ++c) acc[r][c] = fma(v, xs[c], acc[r][c]);
    }
  }
  if (i < k) {
    BAIZE_UNROLL for (int r = 0; r < R; ++r) {
      const Vec v = load_tail<P>(w + r * row_bytes + i * P::kBytes, k - i);
      BAIZE_UNROLL for (int c = 0; c < C; ++c) {
        acc[r][c] = fma(v, load_tail_x(x + c * x_stride + i, k - i), acc[r][c]);
      }
    }
  }
  BAIZE_UNROLL for (int r = 0; r < R; ++r) {
    BAIZE_UNROLL for (int c = 0; c < C; ++c) out[16 * c + r] = sum_of(acc[r][c]);
  }
}

template <class P, int C>
BAIZE_INLINE void dot_rows(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, const float* x, int64_t x_stride,
                           float* out) {
  int r = 0;
  for (; r + 4 <= rows; r += 4) dot_tile<P, 4, C>(w + r * row_bytes, row_bytes, k, x, x_stride, out + r);
  for (; r < rows; ++r) dot_tile<P, 1, C>(w + r * row_bytes, row_bytes, k, x, x_stride, out + r);
}

template <class P>
void dot(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, const float* x, int64_t x_stride, int64_t cols,
         float* out) {
  for (; cols >= 2; cols -= 2, x += 2 * x_stride, out += 32) dot_rows<P, 2>(w, row_bytes, rows, k, x, x_stride, out);
  if (cols > 0) dot_rows<P, 1>(w, row_bytes, rows, k, x, x_stride, out);
}

template <class P>
void transpose(const uint8_t* w, int64_t row_bytes, int rows, int64_t k, float* out) {
  for (int64_t i = 0; i < k; i += kLanes) {
    const int64_t count = k - i < kLanes ? k - i : kLanes;
    Vec block[16];
    if (rows == 16 && count == kLanes) {
      BAIZE_UNROLL for (int r = 0; r < 16; ++r) block[r] = P::load(w + r * row_bytes + i * P::kBytes);
      store_transposed(block, out + 16 * i);
      continue;
    }
    for (int r = 0; r < 16; ++r) {
      block[r] = r < rows ? load_tail<P>(w + r * row_bytes + i * P::kBytes, count) : vec_zero();
    }
    alignas(64) float stop_over[16 * kLanes];
    store_transposed(block, stop_over);
    for (int64_t j = 0; j < 16 * count; ++j) out[16 * i + j] = stop_over[j];
  }
}

}  // namespace baize::cpu::BAIZE_ISA
