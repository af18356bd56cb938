// Items: 32 quantised weights in the form that integer products take, loaded from one unit of 1,024 weights.
#pragma once

#include "backend/cuda/blocks.h"
#include "backend/cuda/kernels/common.cuh"

namespace baize::cuda {

/// Activations quantised to 8 bits share a scale in runs of this many.
inline constexpr int kRun = 16;

// 32 weights: two runs of 16 bytes, each value = scale * byte + offset; first elements at `at`.
struct Item {
  uint32_t q[2][4];
  float scale[2], offset[2];
  int at[2];
};

__device__ __forceinline__ float half_of(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}
__device__ __forceinline__ void split_nibbles(const uint4& raw, Item& item) {
  const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    item.q[0][i] = w[i] & 0x0f0f0f0fu;
    item.q[1][i] = w[i] >> 4 & 0x0f0f0f0fu;
  }
}
// Bits `shift` .. of every byte of b, put at bit 4 of the bytes of q.
template <int kBits>
__device__ __forceinline__ void add_high(const uint4& b, int shift, uint32_t (&q)[4]) {
  constexpr uint32_t mask = kBits == 1 ? 0x01010101u : 0x03030303u;
  const uint32_t w[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) q[i] |= (w[i] >> shift & mask) << 4;
}
__device__ __forceinline__ uint4 wide_at(const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); }

/// Types whose items are read in the planar layout; Q4_K and Q5_K are aligned as stored.
constexpr bool item_planar(GgufType type) { return type != GgufType::kQ4_K && type != GgufType::kQ5_K; }
template <GgufType kType>
inline constexpr int kItemUnitBytes = unit_bytes(block_map(kType, item_planar(kType)));

/// Item i, 0 to 31, of a unit; its places are counted from the unit's first weight. kShared: the unit lies in shared
/// memory. A type is added by adding its case here and in gemv_blocks_supports.
template <GgufType kType, bool kShared>
__device__ __forceinline__ Item load_item(const uint8_t* unit, int i) {
  constexpr PlanarUnit at = planar_unit(block_map(kType, true));
  const auto once = [](const uint8_t* p) { return kShared ? wide_at(p) : load_stream(p); };
  Item item;
  if constexpr (kType == GgufType::kQ4_0 || kType == GgufType::kQ4_1) {
    split_nibbles(once(unit + at.a + i * 16), item);
    if constexpr (kType == GgufType::kQ4_0) {
      const float d = half_of(*reinterpret_cast<const uint16_t*>(unit + at.d + i * 2));
      item.scale[0] = item.scale[1] = d;
      item.offset[0] = item.offset[1] = -8.0f * d;
    } else {
      const uint32_t dm = *reinterpret_cast<const uint32_t*>(unit + at.d + i * 4);
      item.scale[0] = item.scale[1] = half_of(dm & 0xffffu);
      item.offset[0] = item.offset[1] = half_of(dm >> 16);
    }
    item.at[0] = i * 32;
    item.at[1] = i * 32 + 16;
  } else if constexpr (kType == GgufType::kQ8_0) {
    const uint4 lo = once(unit + at.a + i * 32), hi = once(unit + at.a + i * 32 + 16);
    item.q[0][0] = lo.x, item.q[0][1] = lo.y, item.q[0][2] = lo.z, item.q[0][3] = lo.w;
    item.q[1][0] = hi.x, item.q[1][1] = hi.y, item.q[1][2] = hi.z, item.q[1][3] = hi.w;
    item.scale[0] = item.scale[1] = half_of(*reinterpret_cast<const uint16_t*>(unit + at.d + i * 2));
    item.offset[0] = item.offset[1] = 0;
    item.at[0] = i * 32;
    item.at[1] = i * 32 + 16;
  } else if constexpr (kType == GgufType::kQ4_K || kType == GgufType::kQ5_K) {
    constexpr BlockMap kMap = block_map(kType);
    const uint8_t* block = unit + i / 8 * kMap.bytes;
    const int j = i % 8, pair = j / 2;
    split_nibbles(once(block + kMap.at_a + j * 16), item);
    if constexpr (kType == GgufType::kQ5_K) {
      const uint4 high = wide_at(block + kMap.at_b + j % 2 * 16);
      add_high<1>(high, 2 * pair, item.q[0]);
      add_high<1>(high, 2 * pair + 1, item.q[1]);
    }
    const uint4 head = wide_at(block);  // d, dmin, 12 bytes of scales and minimums
    const float d = half_of(head.x & 0xffffu), dmin = half_of(head.x >> 16);
    // Scale and minimum of the groups 2 * pair and 2 * pair + 1, as pairs of bytes.
    const int shift = pair % 2 * 16;
    uint32_t scale = head.y >> shift, minimum = head.z >> shift;
    if (pair < 2) {
      scale &= 0x3f3fu;
      minimum &= 0x3f3fu;
    } else {
      const uint32_t low = head.w >> shift;
      scale = (low & 0x0f0fu) | (scale >> 2 & 0x3030u);
      minimum = (low >> 4 & 0x0f0fu) | (minimum >> 2 & 0x3030u);
    }
    item.scale[0] = d * static_cast<float>(scale & 255u);
    item.scale[1] = d * static_cast<float>(scale >> 8 & 255u);
    item.offset[0] = -dmin * static_cast<float>(minimum & 255u);
    item.offset[1] = -dmin * static_cast<float>(minimum >> 8 & 255u);
    item.at[0] = i / 8 * 256 + pair * 64 + j % 2 * 16;
    item.at[1] = item.at[0] + 32;
  } else if constexpr (kType == GgufType::kQ6_K) {
    const int block = i / 8, j = i % 8, half = j / 4, part = j % 4 / 2, run = j % 2;
    split_nibbles(once(unit + at.a + i * 16), item);
    const uint4 high = wide_at(unit + at.b + block * 64 + half * 32 + run * 16);
    add_high<2>(high, 2 * part, item.q[0]);
    add_high<2>(high, 2 * part + 4, item.q[1]);
    const float d = half_of(*reinterpret_cast<const uint16_t*>(unit + at.d + block * 2));
    const auto* scales = reinterpret_cast<const int8_t*>(unit + at.c + block * 16 + half * 8 + part * 2 + run);
    item.scale[0] = d * static_cast<float>(scales[0]);
    item.scale[1] = d * static_cast<float>(scales[4]);
    item.offset[0] = -32.0f * item.scale[0];
    item.offset[1] = -32.0f * item.scale[1];
    item.at[0] = block * 256 + half * 128 + part * 32 + run * 16;
    item.at[1] = item.at[0] + 64;
  }
  return item;
}

/// scale * (item . x) of one row of x: `q` its quantised values, `scales` {scale, scale * sum} a run.
__device__ __forceinline__ float item_dot(const Item& item, const int8_t* q, const float2* scales) {
  float sum = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const uint4 v = *reinterpret_cast<const uint4*>(q + item.at[h]);
    const float2 s = scales[item.at[h] / kRun];
    int dot = __dp4a(static_cast<int>(item.q[h][0]), static_cast<int>(v.x), 0);
    dot = __dp4a(static_cast<int>(item.q[h][1]), static_cast<int>(v.y), dot);
    dot = __dp4a(static_cast<int>(item.q[h][2]), static_cast<int>(v.z), dot);
    dot = __dp4a(static_cast<int>(item.q[h][3]), static_cast<int>(v.w), dot);
    sum += item.scale[h] * s.x * static_cast<float>(dot) + item.offset[h] * s.y;
  }
  return sum;
}

}  // namespace baize::cuda
