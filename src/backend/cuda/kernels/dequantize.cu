// Weights of any type as bf16 rows, for the matrix library at many rows of x.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

__global__ void __launch_bounds__(256)
    dequantize_kernel(Weights w, int64_t begin, int64_t groups, int64_t count, __nv_bfloat16* out) {
  pdl_launch();
  pdl_wait();  // `out` may still be read by the product before this one
  const int64_t at = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
  if (at >= count * groups) return;
  const int64_t row = at / groups;
  const int group = static_cast<int>(at % groups);
  float v[32];
  decode32(w, begin + row, group, v);
  __nv_bfloat16* to = out + row * w.k + group * 32;
  if (w.k % 8 == 0) {
#pragma unroll
    for (int i = 0; i < 32; i += 8) {
      if (group * 32 + i >= w.k) break;
      uint4 p;
      p.x = pack_bf16(v[i], v[i + 1]);
      p.y = pack_bf16(v[i + 2], v[i + 3]);
      p.z = pack_bf16(v[i + 4], v[i + 5]);
      p.w = pack_bf16(v[i + 6], v[i + 7]);
      *reinterpret_cast<uint4*>(to + i) = p;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    if (group * 32 + i < w.k) to[i] = __float2bfloat16_rn(v[i]);
  }
}

}  // namespace

void dequantize(cudaStream_t stream, const Linear& linear, bool planar, int64_t begin, int64_t count, void* out) {
  const int64_t groups = (linear.shape.k + 31) / 32;
  const Weights w = weights(linear.shape, linear.w.data, planar, static_cast<const float*>(linear.scales.data));
  launch("dequantise weights", dequantize_kernel, dim3(static_cast<unsigned>((count * groups + 255) / 256)), dim3(256),
         0, stream, w, begin, groups, count, static_cast<__nv_bfloat16*>(out));
}

}  // namespace baize::cuda
