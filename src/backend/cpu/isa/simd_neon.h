// The vector types of linear_simd.h on NEON with the dot-product extension (Armv8.2): 16 rows are four registers.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace baize::cpu::BAIZE_ISA {

#define BAIZE_INLINE inline __attribute__((always_inline))

inline constexpr int kTile = 4;
inline constexpr int kTileF32 = 6;
inline constexpr int kDotBits = 8;
inline constexpr bool kDotSigned = true;  // sdot: both sides signed; unsigned weights of up to seven bits are the same
constexpr int dot_adds(int /*bits*/) { return 8; }

// One operation on each of the four registers of a value.
#define BAIZE_EACH(Type, expression)               \
  Type r;                                          \
  for (int i = 0; i < 4; ++i) r.v[i] = expression; \
  return r

struct Bytes {
  uint8x16_t v[4];
};
using Row16 = uint8x16_t;
struct Floats {
  float32x4_t v[4];
};
struct Ints {
  int32x4_t v[4];
};
using Act4 = int8x16_t;

BAIZE_INLINE Bytes load_bytes(const uint8_t* p) { BAIZE_EACH(Bytes, vld1q_u8(p + 16 * i)); }
BAIZE_INLINE void store_bytes(uint8_t* p, Bytes a) {
  for (int i = 0; i < 4; ++i) vst1q_u8(p + 16 * i, a.v[i]);
}
template <int Shift, int Width, int Up>
BAIZE_INLINE uint8x16_t bits128(uint8x16_t a) {
  constexpr int kMove = Shift - Up;
  if constexpr (kMove > 0) a = vshrq_n_u8(a, kMove);
  if constexpr (kMove < 0) a = vshlq_n_u8(a, -kMove);
  if constexpr (Shift + Width == 8 && Up == 0) return a;
  return vandq_u8(a, vdupq_n_u8(static_cast<uint8_t>(((1 << Width) - 1) << Up)));
}
template <int Shift, int Width, int Up = 0>
BAIZE_INLINE Bytes bits(Bytes a) {
  BAIZE_EACH(Bytes, (bits128<Shift, Width, Up>(a.v[i])));
}
BAIZE_INLINE Bytes operator|(Bytes a, Bytes b) { BAIZE_EACH(Bytes, vorrq_u8(a.v[i], b.v[i])); }
BAIZE_INLINE Bytes lookup(Bytes a, const uint8_t* table) {
  const uint8x16_t t = vld1q_u8(table);
  BAIZE_EACH(Bytes, vqtbl1q_u8(t, a.v[i]));
}
/// value + 128 as unsigned to value as signed.
BAIZE_INLINE Bytes centre(Bytes a) { BAIZE_EACH(Bytes, veorq_u8(a.v[i], vdupq_n_u8(0x80))); }

BAIZE_INLINE Row16 load_row(const uint8_t* p) { return vld1q_u8(p); }
BAIZE_INLINE Row16 row_shift_right(Row16 a, int shift) { return vshlq_u8(a, vdupq_n_s8(static_cast<int8_t>(-shift))); }
BAIZE_INLINE Row16 row_shift_left(Row16 a, int shift) { return vshlq_u8(a, vdupq_n_s8(static_cast<int8_t>(shift))); }
BAIZE_INLINE Row16 row_and(Row16 a, int mask) { return vandq_u8(a, vdupq_n_u8(static_cast<uint8_t>(mask))); }
BAIZE_INLINE Row16 row_or(Row16 a, Row16 b) { return vorrq_u8(a, b); }

struct Words {
  uint32x4_t v[4];
};
BAIZE_INLINE Words words_of(Row16 a) {
  const uint16x8_t low = vmovl_u8(vget_low_u8(a)), high = vmovl_high_u8(a);
  return {{vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)}};
}
BAIZE_INLINE Floats floats_of_u8(Row16 a) {
  const Words w = words_of(a);
  BAIZE_EACH(Floats, vcvtq_f32_u32(w.v[i]));
}
BAIZE_INLINE Floats floats_of_i8(Row16 a) {
  const int8x16_t s = vreinterpretq_s8_u8(a);
  const int16x8_t low = vmovl_s8(vget_low_s8(s)), high = vmovl_high_s8(s);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}
BAIZE_INLINE float32x4_t floats4_of_f16(const uint8_t* p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
BAIZE_INLINE Floats floats_of_f16(const uint8_t* p) { BAIZE_EACH(Floats, floats4_of_f16(p + 8 * i)); }
BAIZE_INLINE float32x4_t e8m0_half128(uint32x4_t e) {
  const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
  const uint32x4_t subnormal = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
  return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, normal));
}
BAIZE_INLINE Floats floats_of_e8m0_half(Row16 a) {
  const Words w = words_of(a);
  BAIZE_EACH(Floats, e8m0_half128(w.v[i]));
}
template <int I>
BAIZE_INLINE float32x4_t byte128(uint8x16_t a) {
  uint32x4_t w = vreinterpretq_u32_u8(a);
  if constexpr (I > 0) w = vshrq_n_u32(w, 8 * I);
  if constexpr (I < 3) w = vandq_u32(w, vdupq_n_u32(0xff));
  return vcvtq_f32_u32(w);
}
template <int I>
BAIZE_INLINE Floats floats_of_byte(Bytes a) {
  BAIZE_EACH(Floats, byte128<I>(a.v[i]));
}

BAIZE_INLINE Floats load_floats(const float* p) { BAIZE_EACH(Floats, vld1q_f32(p + 4 * i)); }
BAIZE_INLINE void store_floats(float* p, Floats a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.v[i]);
}
BAIZE_INLINE Floats splat(float x) { BAIZE_EACH(Floats, vdupq_n_f32(x)); }
BAIZE_INLINE Floats operator+(Floats a, Floats b) { BAIZE_EACH(Floats, vaddq_f32(a.v[i], b.v[i])); }
BAIZE_INLINE Floats operator-(Floats a, Floats b) { BAIZE_EACH(Floats, vsubq_f32(a.v[i], b.v[i])); }
BAIZE_INLINE Floats operator*(Floats a, Floats b) { BAIZE_EACH(Floats, vmulq_f32(a.v[i], b.v[i])); }
BAIZE_INLINE Floats fma(Floats a, Floats b, Floats c) { BAIZE_EACH(Floats, vfmaq_f32(c.v[i], a.v[i], b.v[i])); }
BAIZE_INLINE Ints splat_int(int32_t x) { BAIZE_EACH(Ints, vdupq_n_s32(x)); }
BAIZE_INLINE Ints operator+(Ints a, Ints b) { BAIZE_EACH(Ints, vaddq_s32(a.v[i], b.v[i])); }
BAIZE_INLINE Floats to_floats(Ints a) { BAIZE_EACH(Floats, vcvtq_f32_s32(a.v[i])); }

BAIZE_INLINE Act4 load_act(const uint8_t* p) {
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof(quad));
  return vreinterpretq_s8_s32(vdupq_n_s32(quad));
}

struct Dot {
  int32x4_t v[4];
  static BAIZE_INLINE Dot of(Bytes w, Act4 a) {
    BAIZE_EACH(Dot, vdotq_s32(vdupq_n_s32(0), vreinterpretq_s8_u8(w.v[i]), a));
  }
  BAIZE_INLINE void add(Bytes w, Act4 a) {
    for (int i = 0; i < 4; ++i) v[i] = vdotq_s32(v[i], vreinterpretq_s8_u8(w.v[i]), a);
  }
  BAIZE_INLINE Ints total() const { return {{v[0], v[1], v[2], v[3]}}; }
};

#undef BAIZE_EACH

// ---- vectors along k, for plain weights ----
inline constexpr int kLanes = 4;
using Vec = float32x4_t;
BAIZE_INLINE Vec vec_zero() { return vdupq_n_f32(0); }
BAIZE_INLINE Vec load_vec(const float* p) { return vld1q_f32(p); }
BAIZE_INLINE Vec load_vec_f16(const uint8_t* p) { return floats4_of_f16(p); }
BAIZE_INLINE Vec load_vec_bf16(const uint8_t* p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}
// e4m3 is a half with a smaller exponent: shifted into one, it is the value times 2^-8, exactly.
BAIZE_INLINE Vec load_vec_f8(const uint8_t* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four)));
  const uint16x4_t half =
      vand_u16(vreinterpret_u16_s16(vshl_n_s16(vget_low_s16(wide), 7)), vdup_n_u16(uint16_t{0xbfff}));
  return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(half)), 256);
}
BAIZE_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
/// out[kLanes][16] from 16 vectors of one row each.
BAIZE_INLINE void store_transposed(const Vec* rows, float* out) {
  for (int r = 0; r < 16; r += 4) {
    const float32x4x2_t low = vtrnq_f32(rows[r], rows[r + 1]), high = vtrnq_f32(rows[r + 2], rows[r + 3]);
    vst1q_f32(out + r, vcombine_f32(vget_low_f32(low.val[0]), vget_low_f32(high.val[0])));
    vst1q_f32(out + 16 + r, vcombine_f32(vget_low_f32(low.val[1]), vget_low_f32(high.val[1])));
    vst1q_f32(out + 32 + r, vcombine_f32(vget_high_f32(low.val[0]), vget_high_f32(high.val[0])));
    vst1q_f32(out + 48 + r, vcombine_f32(vget_high_f32(low.val[1]), vget_high_f32(high.val[1])));
  }
}
BAIZE_INLINE float sum_of(Vec a) { return vaddvq_f32(a); }

// ---- quantising 32 activations ----
BAIZE_INLINE uint32_t max_magnitude_bits(const float* x) {
  uint32x4_t largest = vdupq_n_u32(0);
  for (int i = 0; i < 32; i += 4) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(x + i));
    largest = vmaxq_u32(largest, vandq_u32(bits, vdupq_n_u32(0x7fffffff)));
  }
  return vmaxvq_u32(largest);
}
BAIZE_INLINE void quantize32(const float* x, float inverse, int8_t* q, int32_t* sums) {
  for (int h = 0; h < 2; ++h) {
    int16x4_t parts[4];
    for (int i = 0; i < 4; ++i) {
      parts[i] = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 16 * h + 4 * i), inverse)));
    }
    const int8x8_t low = vqmovn_s16(vcombine_s16(parts[0], parts[1]));
    const int8x8_t high = vqmovn_s16(vcombine_s16(parts[2], parts[3]));
    vst1q_s8(q + 16 * h, vcombine_s8(low, high));
    sums[h] = vaddlvq_s8(vcombine_s8(low, high));
  }
}

}  // namespace baize::cpu::BAIZE_ISA
