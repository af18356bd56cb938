// The vector types of linear_simd.h on AVX2, FMA and F16C: 16 rows are two registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace baize::cpu::BAIZE_ISA {

#define BAIZE_INLINE inline __attribute__((always_inline))

inline constexpr int kTile = 4;
inline constexpr int kTileF32 = 6;
// maddubs adds two products of u8 and s8 into an i16, which saturates: 2 * 127 * 2 * 63 = 32004 still fits for weights
// of six bits and two quads, and so on. Wider weights go through as two nibbles.
inline constexpr int kDotBits = 6;
inline constexpr bool kDotSigned = false;
constexpr int dot_adds(int bits) { return bits <= 4 ? 8 : bits == 5 ? 4 : 2; }

struct Bytes {
  __m256i v[2];
};
using Row16 = __m128i;
struct Floats {
  __m256 v[2];
};
struct Ints {
  __m256i v[2];
};
using Act4 = __m256i;

BAIZE_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

BAIZE_INLINE Bytes load_bytes(const uint8_t* p) { return {{load256(p), load256(p + 32)}}; }
BAIZE_INLINE void store_bytes(uint8_t* p, Bytes a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 32), a.v[1]);
}
template <int Shift, int Width, int Up = 0>
BAIZE_INLINE __m256i bits256(__m256i a) {
  constexpr int kMove = Shift - Up;
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << Width) - 1) << Up));
  if constexpr (kMove > 0) a = _mm256_srli_epi16(a, kMove);
  if constexpr (kMove < 0) a = _mm256_slli_epi16(a, -kMove);
  return _mm256_and_si256(a, mask);
}
template <int Shift, int Width, int Up = 0>
BAIZE_INLINE Bytes bits(Bytes a) {
  return {{bits256<Shift, Width, Up>(a.v[0]), bits256<Shift, Width, Up>(a.v[1])}};
}
BAIZE_INLINE Bytes operator|(Bytes a, Bytes b) {
  return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
}
BAIZE_INLINE Bytes lookup(Bytes a, const uint8_t* table) {
  const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {{_mm256_shuffle_epi8(t, a.v[0]), _mm256_shuffle_epi8(t, a.v[1])}};
}
/// value + 128 as unsigned to value as signed, for a signed Dot.
BAIZE_INLINE Bytes centre(Bytes a) {
  const __m256i flip = _mm256_set1_epi8(-128);
  return {{_mm256_xor_si256(a.v[0], flip), _mm256_xor_si256(a.v[1], flip)}};
}

BAIZE_INLINE Row16 load_row(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
// Shifts are of 16-bit lanes: the caller masks what crosses a byte.
BAIZE_INLINE Row16 row_shift_right(Row16 a, int shift) { return _mm_srl_epi16(a, _mm_cvtsi32_si128(shift)); }
BAIZE_INLINE Row16 row_shift_left(Row16 a, int shift) { return _mm_sll_epi16(a, _mm_cvtsi32_si128(shift)); }
BAIZE_INLINE Row16 row_and(Row16 a, int mask) { return _mm_and_si128(a, _mm_set1_epi8(static_cast<char>(mask))); }
BAIZE_INLINE Row16 row_or(Row16 a, Row16 b) { return _mm_or_si128(a, b); }
BAIZE_INLINE Floats floats_of_u8(Row16 a) {
  return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a)),
           _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a)))}};
}
BAIZE_INLINE Floats floats_of_i8(Row16 a) {
  return {{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a)),
           _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(a, a)))}};
}
BAIZE_INLINE Floats floats_of_f16(const uint8_t* p) {
  return {{_mm256_cvtph_ps(load_row(p)), _mm256_cvtph_ps(load_row(p + 16))}};
}
BAIZE_INLINE __m256 e8m0_half256(__m256i e) {
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}
BAIZE_INLINE Floats floats_of_e8m0_half(Row16 a) {
  return {{e8m0_half256(_mm256_cvtepu8_epi32(a)), e8m0_half256(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a)))}};
}
template <int I>
BAIZE_INLINE __m256 byte256(__m256i a) {
  if constexpr (I > 0) a = _mm256_srli_epi32(a, 8 * I);
  if constexpr (I < 3) a = _mm256_and_si256(a, _mm256_set1_epi32(0xff));
  return _mm256_cvtepi32_ps(a);
}
template <int I>
BAIZE_INLINE Floats floats_of_byte(Bytes a) {
  return {{byte256<I>(a.v[0]), byte256<I>(a.v[1])}};
}

BAIZE_INLINE Floats load_floats(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
BAIZE_INLINE void store_floats(float* p, Floats a) {
  _mm256_storeu_ps(p, a.v[0]);
  _mm256_storeu_ps(p + 8, a.v[1]);
}
BAIZE_INLINE Floats splat(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
BAIZE_INLINE Floats operator+(Floats a, Floats b) {
  return {{_mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1])}};
}
BAIZE_INLINE Floats operator-(Floats a, Floats b) {
  return {{_mm256_sub_ps(a.v[0], b.v[0]), _mm256_sub_ps(a.v[1], b.v[1])}};
}
BAIZE_INLINE Floats operator*(Floats a, Floats b) {
  return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}
BAIZE_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}
BAIZE_INLINE Ints splat_int(int32_t x) { return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}; }
BAIZE_INLINE Ints operator+(Ints a, Ints b) {
  return {{_mm256_add_epi32(a.v[0], b.v[0]), _mm256_add_epi32(a.v[1], b.v[1])}};
}
BAIZE_INLINE Floats to_floats(Ints a) { return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}}; }

BAIZE_INLINE Act4 load_act(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

struct Dot {
  __m256i v[2];
  static BAIZE_INLINE Dot of(Bytes w, Act4 a) {
    return {{_mm256_maddubs_epi16(w.v[0], a), _mm256_maddubs_epi16(w.v[1], a)}};
  }
  BAIZE_INLINE void add(Bytes w, Act4 a) {
    v[0] = _mm256_add_epi16(v[0], _mm256_maddubs_epi16(w.v[0], a));
    v[1] = _mm256_add_epi16(v[1], _mm256_maddubs_epi16(w.v[1], a));
    // Keeps GCC from making a tree of the sums, all of whose leaves would be live at once and spilled.
    asm("" : "+x"(v[0]), "+x"(v[1]));
  }
  BAIZE_INLINE Ints total() const {
    const __m256i one = _mm256_set1_epi16(1);
    return {{_mm256_madd_epi16(v[0], one), _mm256_madd_epi16(v[1], one)}};
  }
};

// ---- vectors along k, for plain weights ----
inline constexpr int kLanes = 8;
using Vec = __m256;
BAIZE_INLINE Vec vec_zero() { return _mm256_setzero_ps(); }
BAIZE_INLINE Vec load_vec(const float* p) { return _mm256_loadu_ps(p); }
BAIZE_INLINE Vec load_vec_f16(const uint8_t* p) { return _mm256_cvtph_ps(load_row(p)); }
BAIZE_INLINE Vec load_vec_bf16(const uint8_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_row(p)), 16));
}
// e4m3 is a half with a smaller exponent: shifted into one, it is the value times 2^-8, exactly.
BAIZE_INLINE Vec load_vec_f8(const uint8_t* p) {
  const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i half = _mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16(static_cast<short>(0xbfff)));
  return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
}
BAIZE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
// out[16 i + r] = rows[r][i] for 8 rows.
BAIZE_INLINE void store_transposed8(const __m256* rows, float* out) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + 16 * i, _mm256_permute2f128_ps(b[i], b[i + 4], 0x20));
    _mm256_storeu_ps(out + 16 * (i + 4), _mm256_permute2f128_ps(b[i], b[i + 4], 0x31));
  }
}
/// out[kLanes][16] from 16 vectors of one row each.
BAIZE_INLINE void store_transposed(const Vec* rows, float* out) {
  store_transposed8(rows, out);
  store_transposed8(rows + 8, out + 8);
}
BAIZE_INLINE float sum_of(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// ---- quantising 32 activations ----
BAIZE_INLINE uint32_t max_magnitude_bits(const float* x) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_and_si256(load256(x), mask);
  for (int i = 8; i < 32; i += 8) largest = _mm256_max_epi32(largest, _mm256_and_si256(load256(x + i), mask));
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  m = _mm_max_epi32(m, _mm_unpackhi_epi64(m, m));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}
BAIZE_INLINE void quantize32(const float* x, float inverse, int8_t* q, int32_t* sums) {
  const __m256 f = _mm256_set1_ps(inverse);
  __m256i i[4];
  for (int j = 0; j < 4; ++j) i[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), f));
  for (int h = 0; h < 2; ++h) {
    const __m256i s = _mm256_add_epi32(i[2 * h], i[2 * h + 1]);
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_unpackhi_epi64(t, t));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 1));
    sums[h] = _mm_cvtsi128_si32(t);
  }
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(bytes, order));
}

}  // namespace baize::cpu::BAIZE_ISA
