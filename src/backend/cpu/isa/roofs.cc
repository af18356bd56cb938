#include "backend/cpu/roofs.h"

#include "backend/cpu/isa/vec.h"

namespace baize::cpu::BAIZE_ISA {

namespace {

// Independent sums: enough to keep every multiplier busy for its latency, few enough for the registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kChains = 20;
#else
constexpr int kChains = 12;
#endif

int64_t read(const std::byte* data, int64_t bytes) {
  constexpr int kStreams = 8;
  constexpr int64_t kStride = kStreams * sizeof(I32);
  static_assert(1024 % kStride == 0);
  I32 sums[kStreams] = {};
  for (int64_t at = 0; at < bytes; at += kStride) {
#pragma GCC unroll 8
    for (int i = 0; i < kStreams; ++i) {
      I32 part;
      __builtin_memcpy(&part, data + at + i * static_cast<int64_t>(sizeof(I32)), sizeof(part));
      sums[i] += part;
    }
  }
  I32 sum{};
  for (const I32& s : sums) sum += s;
  return sum[0];
}

float f32(int64_t rounds) {
  const F32 factor = broadcast(0.999f);
  const F32 term = broadcast(0.001f);
  F32 sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 20
    for (int i = 0; i < kChains; ++i) sums[i] = fma(sums[i], factor, term);
  }
  F32 sum{};
  for (const F32& s : sums) sum += s;
  return sum[0];
}

#if defined(__AMX_INT8__)

struct TileConfig {
  uint8_t palette = 0, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

constexpr int kInt8Chains = 4;
constexpr int64_t kInt8Operations = kInt8Chains * 2 * 16 * 16 * 64;  // tiles of 16 x 64 bytes

int64_t int8(int64_t rounds) {
  TileConfig before;
  _tile_storeconfig(&before);
  TileConfig config;
  config.palette = 1;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = 16;
  }
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  alignas(64) uint8_t ones[16 * 64];
  __builtin_memset(ones, 1, sizeof(ones));
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbssd(0, 4, 5);
    _tile_dpbssd(1, 4, 5);
    _tile_dpbssd(2, 4, 5);
    _tile_dpbssd(3, 4, 5);
  }
  int32_t result[16 * 16];
  _tile_stored(0, result, 64);
  if (before.palette == 0) {
    _tile_release();
  } else {
    _tile_loadconfig(&before);
  }
  return result[0];
}

#else

#if defined(__AVX512VNNI__)
using Ints = __m512i;
constexpr int64_t kMultiplies = 64;
BAIZE_INLINE Ints multiply_add(Ints sum, Ints a, Ints b) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVX2__)
using Ints = __m256i;
constexpr int64_t kMultiplies = 32;
BAIZE_INLINE Ints multiply_add(Ints sum, Ints a, Ints b) {
  asm("" : "+x"(a));  // the product of constants must not be taken out of the loop
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
using Ints = int32x4_t;
constexpr int64_t kMultiplies = 16;
BAIZE_INLINE Ints multiply_add(Ints sum, Ints a, Ints b) {
  return vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
}
#else
using Ints = I32;
constexpr int64_t kMultiplies = kLanes;
// With the constants below a generator of full period: no loop of it can be left out.
BAIZE_INLINE Ints multiply_add(Ints sum, Ints a, Ints b) { return sum * b + a; }
#endif

constexpr int64_t kInt8Operations = 2 * kChains * kMultiplies;

int64_t int8(int64_t rounds) {
  Ints a;
  Ints b;
  __builtin_memset(&a, 3, sizeof(a));
  __builtin_memset(&b, 5, sizeof(b));
  Ints sums[kChains] = {};
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 20
    for (int i = 0; i < kChains; ++i) sums[i] = multiply_add(sums[i], a, b);
  }
  int64_t result = 0;
  for (const Ints& s : sums) {
    int32_t first;
    __builtin_memcpy(&first, &s, sizeof(first));
    result += first;
  }
  return result;
}

#endif

}  // namespace

extern const RoofKernels kRoofKernels;
constinit const RoofKernels kRoofKernels = {
    .read = read,
    .f32 = f32,
    .f32_round_operations = 2 * kChains * kLanes,
    .int8 = int8,
    .int8_round_operations = kInt8Operations,
};

}  // namespace baize::cpu::BAIZE_ISA
