// F32: a vector of floats as wide as the variant's registers, with the few operations the op kernels need, so that each
// kernel is written once. Included by files of backend/cpu/isa/ only; everything is internal to the translation unit
// and in the variant's namespace (see isa.h for why). Arithmetic operators are the compiler's own, element by element.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#pragma GCC diagnostic push
// False alarms of GCC 12 in its own AVX-512 header (PR 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace baize::cpu::BAIZE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

#define BAIZE_INLINE [[gnu::always_inline]] inline

typedef float F32 __attribute__((vector_size(4 * kLanes), may_alias));
typedef int32_t I32 __attribute__((vector_size(4 * kLanes), may_alias));
typedef uint16_t U16 __attribute__((vector_size(2 * kLanes), may_alias));

BAIZE_INLINE F32 load(const float* p) {
  F32 v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}
BAIZE_INLINE void store(float* p, F32 v) { __builtin_memcpy(p, &v, sizeof(v)); }
BAIZE_INLINE F32 broadcast(float x) { return x - F32{}; }

/// The first n < kLanes floats; `fill` in the other lanes.
BAIZE_INLINE F32 load_part(const float* p, int64_t n, float fill) {
  F32 v = broadcast(fill);
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
BAIZE_INLINE void store_part(float* p, int64_t n, F32 v) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

#if defined(__AVX2__)
BAIZE_INLINE float sum(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
BAIZE_INLINE float highest(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
#endif

#if defined(__AVX512F__)
BAIZE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
BAIZE_INLINE F32 max(F32 a, F32 b) { return (F32)_mm512_max_ps((__m512)a, (__m512)b); }
BAIZE_INLINE F32 min(F32 a, F32 b) { return (F32)_mm512_min_ps((__m512)a, (__m512)b); }
BAIZE_INLINE __m256 low_half(F32 v) { return (__m256)__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
BAIZE_INLINE __m256 high_half(F32 v) { return (__m256)__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }
BAIZE_INLINE float sum(F32 v) { return sum(_mm256_add_ps(low_half(v), high_half(v))); }
BAIZE_INLINE float highest(F32 v) { return highest(_mm256_max_ps(low_half(v), high_half(v))); }
BAIZE_INLINE F32 load(const uint16_t* f16) {
  return (F32)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(f16)));
}
BAIZE_INLINE void store(uint16_t* f16, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(f16), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
BAIZE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
BAIZE_INLINE F32 max(F32 a, F32 b) { return (F32)_mm256_max_ps((__m256)a, (__m256)b); }
BAIZE_INLINE F32 min(F32 a, F32 b) { return (F32)_mm256_min_ps((__m256)a, (__m256)b); }
BAIZE_INLINE F32 load(const uint16_t* f16) {
  return (F32)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(f16)));
}
BAIZE_INLINE void store(uint16_t* f16, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(f16), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
BAIZE_INLINE F32 fma(F32 a, F32 b, F32 c) { return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
BAIZE_INLINE F32 max(F32 a, F32 b) { return (F32)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
BAIZE_INLINE F32 min(F32 a, F32 b) { return (F32)vminq_f32((float32x4_t)a, (float32x4_t)b); }
BAIZE_INLINE float sum(F32 v) { return vaddvq_f32((float32x4_t)v); }
BAIZE_INLINE float highest(F32 v) { return vmaxvq_f32((float32x4_t)v); }
BAIZE_INLINE F32 load(const uint16_t* f16) { return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(f16))); }
BAIZE_INLINE void store(uint16_t* f16, F32 v) { vst1_u16(f16, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v))); }
#else  // SSE2, the baseline of x86-64: no fused multiply-add, no half floats
BAIZE_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
BAIZE_INLINE F32 max(F32 a, F32 b) { return (F32)_mm_max_ps((__m128)a, (__m128)b); }
BAIZE_INLINE F32 min(F32 a, F32 b) { return (F32)_mm_min_ps((__m128)a, (__m128)b); }
BAIZE_INLINE float sum(F32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
BAIZE_INLINE float highest(F32 v) {
  const F32 m = max(v, __builtin_shufflevector(v, v, 2, 3, 0, 1));
  return m[0] > m[1] ? m[0] : m[1];
}
// The exponent and mantissa bits move into place, and a product puts the exponent right, subnormals included.
BAIZE_INLINE F32 load(const uint16_t* f16) {
  U16 half;
  __builtin_memcpy(&half, f16, sizeof(half));
  const I32 bits = __builtin_convertvector(half, I32);
  const F32 magnitude = (F32)((bits & 0x7fff) << 13) * 0x1p112f;
  const I32 special = (I32)(magnitude >= 0x1p16f) & 0x7f800000;  // infinity and NaN keep their mantissa
  return (F32)((I32)magnitude | special | ((bits & 0x8000) << 16));
}
// As f32_to_f16 (tensor/dtype.h): subnormal halves are rounded by an addition, others by integers.
BAIZE_INLINE void store(uint16_t* f16, F32 v) {
  const I32 bits = (I32)v;
  const I32 magnitude = bits & 0x7fffffff;
  const I32 is_nan = magnitude > 0x7f800000;
  const I32 is_large = magnitude >= 0x477ff000;
  const I32 is_tiny = magnitude < 0x38800000;
  const I32 tiny = (I32)((F32)magnitude + 0.5f) - 0x3f000000;
  const I32 normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  I32 half = (is_tiny & tiny) | (~is_tiny & normal);
  half = (is_large & 0x7c00) | (~is_large & half);
  half = (is_nan & 0x7e00) | (~is_nan & half);
  const U16 packed = __builtin_convertvector(half | ((bits >> 16) & 0x8000), U16);
  __builtin_memcpy(f16, &packed, sizeof(packed));
}
#endif

/// Part of a row of halves, as load_part and store_part.
BAIZE_INLINE F32 load_part(const uint16_t* f16, int64_t n, float fill) {
  uint16_t whole[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) whole[i] = f16[i];
  F32 v = load(whole);
  for (int64_t i = n; i < kLanes; ++i) v[i] = fill;
  return v;
}
BAIZE_INLINE void store_part(uint16_t* f16, int64_t n, F32 v) {
  uint16_t whole[kLanes];
  store(whole, v);
  for (int64_t i = 0; i < n; ++i) f16[i] = whole[i];
}

/// sums[j] = sum(v[j]) for four vectors.
BAIZE_INLINE void store_sums(float* sums, F32 a, F32 b, F32 c, F32 d) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
  const auto fold = [](F32 v) { return _mm256_add_ps(low_half(v), high_half(v)); };
#else
  const auto fold = [](F32 v) { return (__m256)v; };
#endif
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(fold(a), fold(b)), _mm256_hadd_ps(fold(c), fold(d)));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
#elif defined(__aarch64__)
  const float32x4_t ab = vpaddq_f32((float32x4_t)a, (float32x4_t)b);
  vst1q_f32(sums, vpaddq_f32(ab, vpaddq_f32((float32x4_t)c, (float32x4_t)d)));
#else
  sums[0] = sum(a);
  sums[1] = sum(b);
  sums[2] = sum(c);
  sums[3] = sum(d);
#endif
}

/// Asks for the cache lines of [p, p + bytes); where nothing is mapped it does nothing.
BAIZE_INLINE void prefetch(const void* p, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(p) + at);
}

/// Interleaves the lower (upper) halves of two vectors.
BAIZE_INLINE F32 zip_low(F32 a, F32 b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
BAIZE_INLINE F32 zip_high(F32 a, F32 b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

/// Transposes a square of kLanes vectors in place: log2(kLanes) rounds of interleaving row i with row i + kLanes / 2.
BAIZE_INLINE void transpose(F32 (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    F32 zipped[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      zipped[2 * i] = zip_low(rows[i], rows[i + kLanes / 2]);
      zipped[2 * i + 1] = zip_high(rows[i], rows[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = zipped[i];
  }
}

/// `a` where the mask of a comparison is set, else `b`.
BAIZE_INLINE F32 select(I32 mask, F32 a, F32 b) { return (F32)((mask & (I32)a) | (~mask & (I32)b)); }

/// e^x within 2.5e-7 relative, for x in [-87, 88]; lower x give e^-87, higher e^88. Range reduction to |r| <= ln(2)/2
/// in two parts (Cody and Waite), then a minimax polynomial of degree 5 (7.5e-8).
BAIZE_INLINE F32 exp(F32 x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits of the mantissa
  x = min(broadcast(88.0f), max(broadcast(-87.0f), x));  // in this order NaN stays NaN
  const F32 shifted = fma(x, broadcast(1.44269504f), broadcast(kRound));
  const F32 n = shifted - kRound;
  F32 r = fma(n, broadcast(-0.693359375f), x);
  r = fma(n, broadcast(2.12194440e-4f), r);
  F32 p = fma(r, broadcast(0.00829764796f), broadcast(0.0419154314f));
  p = fma(p, r, broadcast(0.166675751f));
  p = fma(p, r, broadcast(0.499988944f));
  p = fma(p, r, broadcast(0.999999692f));
  p = fma(p, r, broadcast(1.00000007f));
  return (F32)((I32)p + ((I32)shifted << 23));
}

/// tanh(x) within 2e-7 absolute.
BAIZE_INLINE F32 tanh(F32 x) {
  const I32 sign = (I32)x & INT32_MIN;
  const F32 e = exp((F32)((I32)x & INT32_MAX) * -2.0f);
  return (F32)((I32)((1.0f - e) / (1.0f + e)) | sign);
}

}  // namespace
}  // namespace baize::cpu::BAIZE_ISA
