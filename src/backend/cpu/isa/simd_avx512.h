// The vector types of linear_simd.h on AVX-512 with VNNI: 16 rows are one register.
#pragma once

#pragma GCC diagnostic push
// False alarms of GCC 12 in its own AVX-512 header (PR 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstdint>

namespace baize::cpu::BAIZE_ISA {

#define BAIZE_INLINE inline __attribute__((always_inline))

inline constexpr int kTile = 12;  // as many chains as vpdpbusd needs to run twice a cycle
inline constexpr int kTileF32 = 12;
inline constexpr int kDotBits = 8;  // vpdpbusd: u8 times s8 into i32, no saturation
inline constexpr bool kDotSigned = false;
constexpr int dot_adds(int /*bits*/) { return 8; }

struct Bytes {
  __m512i v;
};
using Row16 = __m128i;
struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};
using Act4 = __m512i;

BAIZE_INLINE Bytes load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
BAIZE_INLINE void store_bytes(uint8_t* p, Bytes a) { _mm512_storeu_si512(p, a.v); }
template <int Shift, int Width, int Up = 0>
BAIZE_INLINE Bytes bits(Bytes a) {
  constexpr int kMove = Shift - Up;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>(((1 << Width) - 1) << Up));
  if constexpr (kMove > 0) a.v = _mm512_srli_epi16(a.v, kMove);
  if constexpr (kMove < 0) a.v = _mm512_slli_epi16(a.v, -kMove);
  return {_mm512_and_si512(a.v, mask)};
}
BAIZE_INLINE Bytes operator|(Bytes a, Bytes b) { return {_mm512_or_si512(a.v, b.v)}; }
BAIZE_INLINE Bytes lookup(Bytes a, const uint8_t* table) {
  const __m512i t = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm512_shuffle_epi8(t, a.v)};
}
/// value + 128 as unsigned to value as signed, for a signed Dot.
BAIZE_INLINE Bytes centre(Bytes a) { return {_mm512_xor_si512(a.v, _mm512_set1_epi8(-128))}; }

BAIZE_INLINE Row16 load_row(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
// Shifts are of 16-bit lanes: the caller masks what crosses a byte.
BAIZE_INLINE Row16 row_shift_right(Row16 a, int shift) { return _mm_srl_epi16(a, _mm_cvtsi32_si128(shift)); }
BAIZE_INLINE Row16 row_shift_left(Row16 a, int shift) { return _mm_sll_epi16(a, _mm_cvtsi32_si128(shift)); }
BAIZE_INLINE Row16 row_and(Row16 a, int mask) { return _mm_and_si128(a, _mm_set1_epi8(static_cast<char>(mask))); }
BAIZE_INLINE Row16 row_or(Row16 a, Row16 b) { return _mm_or_si128(a, b); }
BAIZE_INLINE Floats floats_of_u8(Row16 a) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(a))}; }
BAIZE_INLINE Floats floats_of_i8(Row16 a) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(a))}; }
BAIZE_INLINE Floats floats_of_f16(const uint8_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
BAIZE_INLINE Floats floats_of_e8m0_half(Row16 a) {
  const __m512i e = _mm512_cvtepu8_epi32(a);
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  const __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
  return {_mm512_castsi512_ps(_mm512_mask_blend_epi32(small, normal, subnormal))};
}
template <int I>
BAIZE_INLINE Floats floats_of_byte(Bytes a) {
  if constexpr (I > 0) a.v = _mm512_srli_epi32(a.v, 8 * I);
  if constexpr (I < 3) a.v = _mm512_and_si512(a.v, _mm512_set1_epi32(0xff));
  return {_mm512_cvtepi32_ps(a.v)};
}

BAIZE_INLINE Floats load_floats(const float* p) { return {_mm512_loadu_ps(p)}; }
BAIZE_INLINE void store_floats(float* p, Floats a) { _mm512_storeu_ps(p, a.v); }
BAIZE_INLINE Floats splat(float x) { return {_mm512_set1_ps(x)}; }
BAIZE_INLINE Floats operator+(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
BAIZE_INLINE Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
BAIZE_INLINE Floats operator*(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
BAIZE_INLINE Floats fma(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
BAIZE_INLINE Ints splat_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
BAIZE_INLINE Ints operator+(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
BAIZE_INLINE Floats to_floats(Ints a) { return {_mm512_cvtepi32_ps(a.v)}; }

BAIZE_INLINE Act4 load_act(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

struct Dot {
  __m512i v;
  static BAIZE_INLINE Dot of(Bytes w, Act4 a) { return {_mm512_dpbusd_epi32(_mm512_setzero_si512(), w.v, a)}; }
  BAIZE_INLINE void add(Bytes w, Act4 a) { v = _mm512_dpbusd_epi32(v, w.v, a); }
  BAIZE_INLINE Ints total() const { return {v}; }
};

// ---- vectors along k, for plain weights ----
inline constexpr int kLanes = 16;
using Vec = __m512;
BAIZE_INLINE Vec vec_zero() { return _mm512_setzero_ps(); }
BAIZE_INLINE Vec load_vec(const float* p) { return _mm512_loadu_ps(p); }
BAIZE_INLINE Vec load_vec_f16(const uint8_t* p) { return floats_of_f16(p).v; }
BAIZE_INLINE Vec load_vec_bf16(const uint8_t* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
// e4m3 is a half with a smaller exponent: shifted into one, it is the value times 2^-8, exactly.
BAIZE_INLINE Vec load_vec_f8(const uint8_t* p) {
  const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i half = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(static_cast<short>(0xbfff)));
  return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256));
}
BAIZE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
/// out[kLanes][16] from 16 vectors of one row each.
BAIZE_INLINE void store_transposed(const Vec* rows, float* out) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  // b[i + j]: lanes j, j + 4, j + 8, j + 12 of rows i .. i + 3, one a 128-bit part.
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512 even01 = _mm512_shuffle_f32x4(b[j], b[j + 4], 0x88),
                 odd01 = _mm512_shuffle_f32x4(b[j], b[j + 4], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(b[j + 8], b[j + 12], 0xdd);
    _mm512_storeu_ps(out + 16 * j, _mm512_shuffle_f32x4(even01, even23, 0x88));
    _mm512_storeu_ps(out + 16 * (j + 4), _mm512_shuffle_f32x4(odd01, odd23, 0x88));
    _mm512_storeu_ps(out + 16 * (j + 8), _mm512_shuffle_f32x4(even01, even23, 0xdd));
    _mm512_storeu_ps(out + 16 * (j + 12), _mm512_shuffle_f32x4(odd01, odd23, 0xdd));
  }
}
BAIZE_INLINE float sum_of(Vec a) { return _mm512_reduce_add_ps(a); }

// ---- quantising 32 activations ----
BAIZE_INLINE uint32_t max_magnitude_bits(const float* x) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), mask);
  const __m512i b = _mm512_and_si512(_mm512_loadu_si512(x + 16), mask);
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(_mm512_max_epi32(a, b)));
}
BAIZE_INLINE void quantize32(const float* x, float inverse, int8_t* q, int32_t* sums) {
  for (int h = 0; h < 2; ++h) {
    const __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16 * h), _mm512_set1_ps(inverse)));
    // A NaN becomes the least integer; saturation keeps the sum defined.
    const __m128i bytes = _mm512_cvtsepi32_epi8(i);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + 16 * h), bytes);
    sums[h] = _mm512_reduce_add_epi32(_mm512_cvtepi8_epi32(bytes));
  }
}

}  // namespace baize::cpu::BAIZE_ISA
