// Conversions between e4m3 and wider floats, in pairs as the hardware does them.
#pragma once

#include "backend/cuda/kernels/common.cuh"

namespace baize::cuda {

/// Two e4m3 values (the lower byte first) as halves: exact.
__device__ __forceinline__ __half2 halves_of_e4m3(uint32_t pair) {
  uint32_t out;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"(static_cast<uint16_t>(pair)));
  return *reinterpret_cast<const __half2*>(&out);
}

/// Four e4m3 values as floats.
__device__ __forceinline__ void unpack_e4m3(uint32_t four, float (&v)[4]) {
  const float2 low = __half22float2(halves_of_e4m3(four)), high = __half22float2(halves_of_e4m3(four >> 16));
  v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
}

/// Two floats as e4m3, nearest even; beyond 448: 448, NaN stays.
__device__ __forceinline__ uint32_t pack_e4m3(float low, float high) {
  uint16_t out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(high), "f"(low));
  return out;
}
__device__ __forceinline__ uint2 pack8_e4m3(const float (&v)[8], float factor) {
  uint32_t w[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    w[i] = pack_e4m3(v[4 * i] * factor, v[4 * i + 1] * factor) | pack_e4m3(v[4 * i + 2] * factor, v[4 * i + 3] * factor)
                                                                     << 16;
  }
  return make_uint2(w[0], w[1]);
}

constexpr float kMaxE4m3 = 448.0f;

}  // namespace baize::cuda
