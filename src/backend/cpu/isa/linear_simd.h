// The vector types that the matrix kernels are written over, one header a variant. 16 rows of weights are one value:
//   Bytes   64 bytes: 4 a row (a quad, see linear/layout.h)      Row16   one byte a row
//   Floats  one f32 a row     Ints  one i32 a row                Act4    4 activations of one column, for every row
//   Dot     sums of products of quads and Act4s; dot_adds(bits) says how many it takes without overflow
//   Vec     kLanes f32 along k
// kTile and kTileF32 are the columns of a micro-kernel, sized by the registers. Any thread.
#pragma once

#if defined(__AVX512VNNI__)
#include "backend/cpu/isa/simd_avx512.h"
#elif defined(__AVX2__)
#include "backend/cpu/isa/simd_avx2.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "backend/cpu/isa/simd_neon.h"
#else
#include "backend/cpu/isa/simd_generic.h"
#endif

// Loops over registers are unrolled; the portable variant has no registers to fill and is kept small.
#if !defined(BAIZE_INLINE)
#define BAIZE_INLINE inline
#define BAIZE_UNROLL
#else
#define BAIZE_UNROLL _Pragma("GCC unroll 16")
#endif
