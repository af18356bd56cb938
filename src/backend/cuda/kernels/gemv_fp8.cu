// Products of one bf16 row with fp8 weights, in f32 sums: weights become halves in registers, two at a time, and the
// scale of a row (or of 128 weights) multiplies the sum of its products. Bound by reading the weights once: one warp a
// row of weights, four wide loads a lane in flight, the first of them before the predecessor has finished.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/fp8.cuh"
#include "backend/cuda/kernels/gemv.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kLoads = 4;        // 16-byte loads in flight a lane
constexpr int kChunk = 32 * 16;  // weights of a warp's load

__device__ __forceinline__ float dot16(const uint4& raw, const __nv_bfloat16* x) {
  const uint32_t w[4] = {raw.x, raw.y, raw.z, raw.w};
  float sum = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float xs[8], low[4], high[4];
    load8(x, DType::kBF16, half * 8, xs);
    unpack_e4m3(w[2 * half], low);
    unpack_e4m3(w[2 * half + 1], high);
#pragma unroll
    for (int e = 0; e < 4; ++e) sum += low[e] * xs[e] + high[e] * xs[4 + e];
  }
  return sum;
}

template <bool kGrouped>
__global__ void __launch_bounds__(kWarps * 32) gemv_fp8_kernel(const __grid_constant__ GemvArgs a) {
  pdl_launch();
  const GemvPart& part = a.part[find_part(a, blockIdx.x)];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = (blockIdx.x - part.first_block) * kWarps + warp;
  if (column >= part.n) return;
  const uint8_t* w = part.w + static_cast<int64_t>(column) * a.k;
  const auto* x = static_cast<const __nv_bfloat16*>(a.x.data);
  uint4 raw[kLoads];
  const auto fetch = [&](int begin) {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int i = begin + j * kChunk + lane * 16;
      raw[j] = i < a.k ? load_stream(w + i) : make_uint4(0, 0, 0, 0);
    }
  };
  fetch(0);
  const float scale = kGrouped ? 1.0f : part.scales[column];
  pdl_wait();
  float sum = 0;
  for (int begin = 0; begin < a.k; begin += kLoads * kChunk) {
    uint4 now[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) now[j] = raw[j];
    if (begin + kLoads * kChunk < a.k) fetch(begin + kLoads * kChunk);
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int i = begin + j * kChunk + lane * 16;
      if (i >= a.k) continue;
      const float products = dot16(now[j], x + i);
      sum += kGrouped ? products * part.scales[static_cast<int64_t>(i / 128) * part.n + column] : products;
    }
  }
  sum = warp_sum(sum) * scale;
  if (lane == 0) store_result(part, a.softcap, 0, column, sum);
}

}  // namespace

void gemv_fp8(cudaStream_t stream, std::span<const LinearCall> calls) {
  GemvArgs args;
  const auto blocks = static_cast<unsigned>(gemv_args(calls, kWarps, args));
  const bool grouped = calls[0].linear->shape.format.group != 0;
  launch("multiply one row", grouped ? gemv_fp8_kernel<true> : gemv_fp8_kernel<false>, dim3(blocks), dim3(kWarps * 32),
         0, stream, args);
}

}  // namespace baize::cuda
