// How each packed weight type is read: for one group of 32 weights along k and 16 rows, quad<J>() gives the unsigned
// values, scale_of<S>() and (for types with minima) min_of<S>() the factors of half-group S, so that
//   w = scale * (value - kOffset)  or  w = scale * value + min.
// Written once, over the vector types of the variant. The packed layout is described in linear/layout.h.
#pragma once

#include "backend/cpu/isa/linear_simd.h"
#include "backend/cpu/linear/layout.h"

namespace baize::cpu::BAIZE_ISA {

// ---- fields narrower than a byte ----
template <int J>
BAIZE_INLINE Bytes nibble(const uint8_t* p) {
  return bits<J / 4 * 4, 4>(load_bytes(p + 64 * (J % 4)));
}
template <int J, int Up>
BAIZE_INLINE Bytes two(const uint8_t* p) {
  return bits<J % 4 * 2, 2, Up>(load_bytes(p + 64 * (J / 4)));
}
template <int J, int Up>
BAIZE_INLINE Bytes one(const uint8_t* p) {
  return bits<J, 1, Up>(load_bytes(p));
}

// ---- six-bit scales ----
template <int Groups>
BAIZE_INLINE Row16 six(const uint8_t* p, int g) {
  constexpr int kLow = Groups / 2, kHigh = Groups / 4;
  const Row16 low = row_shift_right(load_row(p + 16 * (g % kLow)), 4 * (g / kLow));
  const Row16 high = row_shift_right(load_row(p + 16 * (kLow + g % kHigh)), 2 * (g / kHigh));
  return row_or(row_and(low, 15), row_shift_left(row_and(high, 3), 4));
}
BAIZE_INLINE Row16 pair_scale(const uint8_t* p, int g) {
  const Row16 high = row_shift_right(load_row(p + 128 + 16 * (g % 4)), g / 4 * 4);
  return row_or(row_and(load_row(p + 16 * g), 15), row_shift_left(row_and(high, 3), 4));
}
BAIZE_INLINE Row16 pair_min(const uint8_t* p, int g) {
  const Row16 high = row_shift_right(load_row(p + 128 + 16 * (g % 4)), g / 4 * 4);
  return row_or(row_and(row_shift_right(load_row(p + 16 * g), 4), 15), row_shift_left(row_and(high, 12), 2));
}

// ---- the types ----
// kBytes: one block of 16 rows. `b` points at it, `g` is the group within it.
template <int Block, int BlockBytes, int Bits, int Offset, bool Min, int Subs>
struct Type {
  static constexpr int kBlock = Block, kBytes = 16 * BlockBytes, kBits = Bits, kOffset = Offset, kSubs = Subs;
  static constexpr bool kMin = Min;
  static constexpr ActLayout kAct{Subs, Offset};
};

struct Q4_0 : Type<32, 18, 4, 8, false, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return nibble<J>(b + 32);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
};

struct Q4_1 : Type<32, 20, 4, 0, true, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return nibble<J>(b + 64);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
  template <int S>
  static BAIZE_INLINE Floats min(const uint8_t* b, int) {
    return floats_of_f16(b + 32);
  }
};

struct Q5_0 : Type<32, 22, 5, 16, false, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return nibble<J>(b + 96) | one<J, 4>(b + 32);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
};

struct Q5_1 : Type<32, 24, 5, 0, true, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return nibble<J>(b + 128) | one<J, 4>(b + 64);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
  template <int S>
  static BAIZE_INLINE Floats min(const uint8_t* b, int) {
    return floats_of_f16(b + 32);
  }
};

struct Q8_0 : Type<32, 34, 8, 128, false, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return load_bytes(b + 32 + 64 * J);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
};

// Factors of super-blocks have two levels, scale = d(block) * sc(group) and min = -dmin(block) * mn(group): gemv sums
// with the group's factors first.
template <class T>
concept Super = T::kBlock == 256;

template <class T, int S>
BAIZE_INLINE Floats scale_of(const uint8_t* b, int g) {
  if constexpr (Super<T>) {
    return floats_of_f16(b) * T::template sc<S>(b, g);
  } else {
    return T::template scale<S>(b, g);
  }
}
template <class T, int S>
BAIZE_INLINE Floats min_of(const uint8_t* b, int g) {
  if constexpr (Super<T>) {
    return splat(0) - floats_of_f16(b + 32) * T::template mn<S>(b, g);
  } else {
    return T::template min<S>(b, g);
  }
}

struct Q2_K : Type<256, 84, 2, 0, true, 2> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    return two<J, 0>(b + 320 + 128 * g);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return floats_of_u8(row_and(load_row(b + 64 + 16 * (2 * g + S)), 15));
  }
  template <int S>
  static BAIZE_INLINE Floats mn(const uint8_t* b, int g) {
    return floats_of_u8(row_and(row_shift_right(load_row(b + 64 + 16 * (2 * g + S)), 4), 15));
  }
};

struct Q3_K : Type<256, 110, 3, 4, false, 2> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    const uint8_t* q = b + 224 + 192 * g;
    return two<J, 0>(q) | one<J, 2>(q + 128);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return floats_of_u8(six<16>(b + 32, 2 * g + S)) - splat(32);
  }
};

struct Q4_K : Type<256, 144, 4, 0, true, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    return nibble<J>(b + 256 + 256 * g);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return floats_of_u8(pair_scale(b + 64, g));
  }
  template <int S>
  static BAIZE_INLINE Floats mn(const uint8_t* b, int g) {
    return floats_of_u8(pair_min(b + 64, g));
  }
};

struct Q5_K : Type<256, 176, 5, 0, true, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    const uint8_t* q = b + 256 + 320 * g;
    return nibble<J>(q + 64) | one<J, 4>(q);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return Q4_K::sc<S>(b, g);
  }
  template <int S>
  static BAIZE_INLINE Floats mn(const uint8_t* b, int g) {
    return Q4_K::mn<S>(b, g);
  }
};

struct Q6_K : Type<256, 210, 6, 32, false, 2> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    const uint8_t* q = b + 288 + 384 * g;
    return nibble<J>(q + 128) | two<J, 4>(q);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return floats_of_i8(load_row(b + 32 + 16 * (2 * g + S)));
  }
};

// Part Pass of a value that is computed with as `Passes` nibbles. Types with code points have tables of the parts.
template <class T, int J, int Pass, int Passes>
BAIZE_INLINE Bytes quad_part(const uint8_t* b, int g) {
  if constexpr (Passes == 1) {
    return T::template quad<J>(b, g);
  } else if constexpr (requires { T::kCodes; }) {
    return lookup(T::template index<J>(b, g), T::kCodes[1 + Pass]);
  } else {
    return bits<4 * Pass, 4>(T::template quad<J>(b, g));
  }
}

// Code points + 128 of IQ4_NL and IQ4_XS, and twice the FP4 code points + 16.
// (whole, low nibbles, high nibbles)
inline constexpr uint8_t kIq4Codes[3][16] = {{1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241},
                                             {1, 8, 13, 15, 15, 13, 10, 6, 1, 13, 9, 6, 5, 5, 9, 1},
                                             {0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 15}};
inline constexpr uint8_t kMxfp4Codes[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

struct IQ4_NL : Type<32, 18, 8, 128, false, 1> {
  static constexpr auto& kCodes = kIq4Codes;
  template <int J>
  static BAIZE_INLINE Bytes index(const uint8_t* b, int) {
    return nibble<J>(b + 32);
  }
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    return lookup(index<J>(b, g), kCodes[0]);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_f16(b);
  }
};

struct IQ4_XS : Type<256, 136, 8, 128, false, 1> {
  static constexpr auto& kCodes = kIq4Codes;
  template <int J>
  static BAIZE_INLINE Bytes index(const uint8_t* b, int g) {
    return nibble<J>(b + 128 + 256 * g);
  }
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int g) {
    return lookup(index<J>(b, g), kCodes[0]);
  }
  template <int S>
  static BAIZE_INLINE Floats sc(const uint8_t* b, int g) {
    return floats_of_u8(six<8>(b + 32, g)) - splat(32);
  }
};

struct MXFP4 : Type<32, 17, 5, 16, false, 1> {
  template <int J>
  static BAIZE_INLINE Bytes quad(const uint8_t* b, int) {
    return lookup(nibble<J>(b + 16), kMxfp4Codes);
  }
  template <int S>
  static BAIZE_INLINE Floats scale(const uint8_t* b, int) {
    return floats_of_e8m0_half(load_row(b));
  }
};

}  // namespace baize::cpu::BAIZE_ISA
