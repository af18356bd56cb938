// The vector types of linear_simd.h in portable C++, for machines without a variant of their own.
#pragma once

#include <cstdint>
#include <cstring>

namespace baize::cpu::BAIZE_ISA {

// Loops over rows are calls: inlined and unrolled everywhere they would be a megabyte.
#define BAIZE_CALL __attribute__((noinline)) inline

inline constexpr int kTile = 4;     // columns of an int8 micro-kernel
inline constexpr int kTileF32 = 4;  // columns of an f32 micro-kernel
inline constexpr int kDotBits = 8;  // widest weights that Dot takes
inline constexpr bool kDotSigned = false;
constexpr int dot_adds(int /*bits*/) { return 8; }  // how many quads one Dot may sum

struct Bytes {
  uint8_t v[64];
};
struct Row16 {
  uint8_t v[16];
};
struct Floats {
  float v[16];
};
struct Ints {
  int32_t v[16];
};
struct Act4 {
  int8_t v[4];
};

BAIZE_CALL Bytes load_bytes(const uint8_t* p) {
  Bytes r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
BAIZE_CALL void store_bytes(uint8_t* p, const Bytes& a) { std::memcpy(p, a.v, sizeof(a.v)); }

/// ((a >> Shift) & (2^Width - 1)) << Up, a byte at a time.
template <int Shift, int Width, int Up = 0>
BAIZE_CALL Bytes bits(const Bytes& a) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = static_cast<uint8_t>(((a.v[i] >> Shift) & ((1 << Width) - 1)) << Up);
  return r;
}
BAIZE_CALL Bytes operator|(const Bytes& a, const Bytes& b) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] | b.v[i];
  return r;
}
/// table[a] for a < 16.
BAIZE_CALL Bytes lookup(const Bytes& a, const uint8_t* table) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = table[a.v[i]];
  return r;
}

/// value + 128 as unsigned to value as signed, for a signed Dot.
BAIZE_CALL Bytes centre(const Bytes& a) {
  Bytes r;
  for (int i = 0; i < 64; ++i) r.v[i] = a.v[i] ^ 0x80;
  return r;
}

BAIZE_CALL Row16 load_row(const uint8_t* p) {
  Row16 r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
BAIZE_CALL Row16 row_shift_right(const Row16& a, int shift) {
  Row16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<uint8_t>(a.v[i] >> shift);
  return r;
}
BAIZE_CALL Row16 row_shift_left(const Row16& a, int shift) {
  Row16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<uint8_t>(a.v[i] << shift);
  return r;
}
BAIZE_CALL Row16 row_and(const Row16& a, int mask) {
  Row16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<uint8_t>(a.v[i] & mask);
  return r;
}
BAIZE_CALL Row16 row_or(const Row16& a, const Row16& b) {
  Row16 r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] | b.v[i];
  return r;
}
BAIZE_CALL Floats floats_of_u8(const Row16& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
  return r;
}
BAIZE_CALL Floats floats_of_i8(const Row16& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(static_cast<int8_t>(a.v[i]));
  return r;
}

inline float float_of_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}
inline float float_of_f16(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t mantissa = h & 0x3ffu;
  if (exponent == 0x1f) return float_of_bits(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return float_of_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}
/// 16 f16 values.
BAIZE_CALL Floats floats_of_f16(const uint8_t* p) {
  Floats r;
  for (int i = 0; i < 16; ++i) {
    uint16_t h;
    std::memcpy(&h, p + 2 * i, sizeof(h));
    r.v[i] = float_of_f16(h);
  }
  return r;
}
/// 2^(e - 128), exact for every e (half of an E8M0 scale).
BAIZE_CALL Floats floats_of_e8m0_half(const Row16& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) {
    const uint32_t e = a.v[i];
    r.v[i] = float_of_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  }
  return r;
}
/// Byte I of every row's dword.
template <int I>
BAIZE_CALL Floats floats_of_byte(const Bytes& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[4 * i + I]);
  return r;
}

BAIZE_CALL Floats load_floats(const float* p) {
  Floats r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
BAIZE_CALL void store_floats(float* p, const Floats& a) { std::memcpy(p, a.v, sizeof(a.v)); }
BAIZE_CALL Floats splat(float x) {
  Floats r;
  for (float& v : r.v) v = x;
  return r;
}
BAIZE_CALL Floats operator+(const Floats& a, const Floats& b) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] + b.v[i];
  return r;
}
BAIZE_CALL Floats operator-(const Floats& a, const Floats& b) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] - b.v[i];
  return r;
}
BAIZE_CALL Floats operator*(const Floats& a, const Floats& b) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] * b.v[i];
  return r;
}
BAIZE_CALL Floats fma(const Floats& a, const Floats& b, const Floats& c) { return a * b + c; }

BAIZE_CALL Ints splat_int(int32_t x) {
  Ints r;
  for (int32_t& v : r.v) v = x;
  return r;
}
BAIZE_CALL Ints operator+(const Ints& a, const Ints& b) {
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = a.v[i] + b.v[i];
  return r;
}
BAIZE_CALL Floats to_floats(const Ints& a) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = static_cast<float>(a.v[i]);
  return r;
}

inline Act4 load_act(const uint8_t* p) {
  Act4 r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}

/// Sums, a row each, of products of weight quads and activation quads.
struct Dot {
  Ints sum;
  BAIZE_CALL static Dot of(const Bytes& w, const Act4& a) {
    Dot r;
    for (int i = 0; i < 16; ++i) {
      const uint8_t* q = w.v + 4 * i;
      r.sum.v[i] = q[0] * a.v[0] + q[1] * a.v[1] + q[2] * a.v[2] + q[3] * a.v[3];
    }
    return r;
  }
  void add(const Bytes& w, const Act4& a) { sum = sum + of(w, a).sum; }
  Ints total() const { return sum; }
};

// ---- vectors along k, for plain weights ----
inline constexpr int kLanes = 4;
struct Vec {
  float v[kLanes];
};
inline Vec vec_zero() { return {}; }
inline Vec load_vec(const float* p) {
  Vec r;
  std::memcpy(r.v, p, sizeof(r.v));
  return r;
}
inline Vec load_vec_f16(const uint8_t* p) {
  Vec r;
  for (int i = 0; i < kLanes; ++i) {
    uint16_t h;
    std::memcpy(&h, p + 2 * i, sizeof(h));
    r.v[i] = float_of_f16(h);
  }
  return r;
}
inline Vec load_vec_bf16(const uint8_t* p) {
  Vec r;
  for (int i = 0; i < kLanes; ++i) {
    uint16_t h;
    std::memcpy(&h, p + 2 * i, sizeof(h));
    r.v[i] = float_of_bits(static_cast<uint32_t>(h) << 16);
  }
  return r;
}
// e4m3 is a half with a smaller exponent: shifted into one, it is the value times 2^-8, exactly.
inline Vec load_vec_f8(const uint8_t* p) {
  Vec r;
  for (int i = 0; i < kLanes; ++i) {
    const auto half = static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
    r.v[i] = 256 * float_of_f16(half);
  }
  return r;
}
inline Vec fma(const Vec& a, const Vec& b, const Vec& c) {
  Vec r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = a.v[i] * b.v[i] + c.v[i];
  return r;
}
/// out[kLanes][16] from 16 vectors of one row each.
inline void store_transposed(const Vec* rows, float* out) {
  for (int i = 0; i < kLanes; ++i) {
    for (int r = 0; r < 16; ++r) out[16 * i + r] = rows[r].v[i];
  }
}
inline float sum_of(const Vec& a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }

// ---- quantising 32 activations ----
/// Bits of the largest magnitude of 32 floats; a NaN counts as larger than anything.
BAIZE_CALL uint32_t max_magnitude_bits(const float* x) {
  uint32_t largest = 0;
  for (int i = 0; i < 32; ++i) {
    uint32_t b;
    std::memcpy(&b, x + i, sizeof(b));
    b &= 0x7fffffffu;
    largest = b > largest ? b : largest;
  }
  return largest;
}
/// q[i] = round to nearest even of x[i] * inverse, |x[i] * inverse| <= 127; sums[h] = the sum of each half.
BAIZE_CALL void quantize32(const float* x, float inverse, int8_t* q, int32_t* sums) {
  for (int h = 0; h < 2; ++h) {
    int32_t sum = 0;
    for (int i = 16 * h; i < 16 * h + 16; ++i) {
      const float shifted = x[i] * inverse + 0x1.8p23f;  // the addition rounds to an integer
      uint32_t b;
      std::memcpy(&b, &shifted, sizeof(b));
      q[i] = static_cast<int8_t>(static_cast<int32_t>(b) - 0x4b400000);
      sum += q[i];
    }
    sums[h] = sum;
  }
}

}  // namespace baize::cpu::BAIZE_ISA
