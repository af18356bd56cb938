// Device helpers shared by all kernels: dependent launch, reductions, and loads and stores of any float type as f32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace baize::cuda {

__device__ __forceinline__ void pdl_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
__device__ __forceinline__ void pdl_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(~0u, v, o));
  return v;
}

/// Sum over the block; every thread gets it. `shared` holds 33 floats.
__device__ __forceinline__ float block_sum(float v, float* shared) {
  v = warp_sum(v);
  const int warps = (blockDim.x + 31) / 32;
  if (warps == 1) return v;
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  v = warp_sum(threadIdx.x % 32 < warps ? shared[threadIdx.x % 32] : 0.0f);
  __syncthreads();
  return v;
}

__device__ __forceinline__ float bf16_lo(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_hi(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ uint32_t pack_bf16(float lo, float hi) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
  return *reinterpret_cast<const uint32_t*>(&v);
}
__device__ __forceinline__ void unpack_bf16(const uint4& raw, float (&v)[8]) {
  const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = bf16_lo(w[i]);
    v[2 * i + 1] = bf16_hi(w[i]);
  }
}
__device__ __forceinline__ void unpack_f16(const uint4& raw, float (&v)[8]) {
  const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 f = __half22float2(*reinterpret_cast<const __half2*>(&w[i]));
    v[2 * i] = f.x;
    v[2 * i + 1] = f.y;
  }
}

/// Element i of an array of f32, f16 or bf16.
__device__ __forceinline__ float load1(const void* p, DType type, int64_t i) {
  if (type == DType::kF32) return static_cast<const float*>(p)[i];
  if (type == DType::kBF16) return __bfloat162float(static_cast<const __nv_bfloat16*>(p)[i]);
  return __half2float(static_cast<const __half*>(p)[i]);
}
__device__ __forceinline__ void store1(void* p, DType type, int64_t i, float v) {
  if (type == DType::kF32) {
    static_cast<float*>(p)[i] = v;
  } else if (type == DType::kBF16) {
    static_cast<__nv_bfloat16*>(p)[i] = __float2bfloat16_rn(v);
  } else {
    static_cast<__half*>(p)[i] = __float2half_rn(v);
  }
}

/// Elements [i, i + 8) with wide accesses; the address must be aligned to 16 bytes.
__device__ __forceinline__ void load8(const void* p, DType type, int64_t i, float (&v)[8]) {
  if (type == DType::kF32) {
    const float4* f = reinterpret_cast<const float4*>(static_cast<const float*>(p) + i);
    const float4 a = f[0], b = f[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
  const uint4 raw = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p) + i);
  if (type == DType::kBF16) {
    unpack_bf16(raw, v);
  } else {
    unpack_f16(raw, v);
  }
}
__device__ __forceinline__ void store8(void* p, DType type, int64_t i, const float (&v)[8]) {
  if (type == DType::kF32) {
    float4* f = reinterpret_cast<float4*>(static_cast<float*>(p) + i);
    f[0] = make_float4(v[0], v[1], v[2], v[3]);
    f[1] = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
  uint32_t w[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (type == DType::kBF16) {
      w[j] = pack_bf16(v[2 * j], v[2 * j + 1]);
    } else {
      const __half2 h = __floats2half2_rn(v[2 * j], v[2 * j + 1]);
      w[j] = *reinterpret_cast<const uint32_t*>(&h);
    }
  }
  *reinterpret_cast<uint4*>(static_cast<uint16_t*>(p) + i) = make_uint4(w[0], w[1], w[2], w[3]);
}

/// A matrix view as kernels take it.
struct Mat {
  void* data;
  DType dtype;
  int64_t stride;  // elements between rows
  int rows, cols;
};
inline Mat mat(const Tensor& t) {
  if (t.shape.rank() == 1) return {t.data, t.dtype, 0, 1, static_cast<int>(t.shape[0])};
  int64_t cols = 1;
  for (int i = 1; i < t.shape.rank(); ++i) cols *= t.shape[i];
  return {t.data, t.dtype, t.strides[0], static_cast<int>(t.shape[0]), static_cast<int>(cols)};
}
/// True when rows can be read and written eight elements at a time.
inline bool wide(const Mat& m) {
  const int64_t bytes = dtype_bytes(m.dtype);
  return m.cols % 8 == 0 && reinterpret_cast<uintptr_t>(m.data) % 16 == 0 && m.stride * bytes % 16 == 0;
}

/// Streaming 16-byte load that does not displace other lines of L1.
__device__ __forceinline__ uint4 load_stream(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

}  // namespace baize::cuda
