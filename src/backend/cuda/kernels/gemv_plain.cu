// Products of 1 to 16 rows with plain weights, in f32 arithmetic: bound by reading the weights once, so each kernel
// keeps many wide loads in flight and asks for its first weights before its predecessor has finished.
//  - one row: one warp a row of weights (or two, halving k);
//  - other cases (bf16 in rows of 16 bytes goes to the library): four rows of x at a time.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/gemv.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kLoads = 4;  // 16-byte loads in flight a lane

// kSplit warps share a row of weights.
template <bool kHalf, int kSplit>
__global__ void __launch_bounds__(kWarps * 32) gemv_kernel(const __grid_constant__ GemvArgs a) {
  __shared__ float partial[kWarps];
  constexpr int kRows = kWarps / kSplit;
  pdl_launch();
  const GemvPart& part = a.part[find_part(a, blockIdx.x)];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = (blockIdx.x - part.first_block) * kRows + warp / kSplit;
  const bool active = column < part.n;
  const uint8_t* w = part.w + static_cast<int64_t>(active ? column : 0) * a.k * 2;
  const int chunks = (a.k + 255) / 256;
  const int begin = chunks * (warp % kSplit) / kSplit, end = chunks * (warp % kSplit + 1) / kSplit;
  uint4 raw[kLoads];
  const auto fetch = [&](int chunk) {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int i = (chunk + j) * 256 + lane * 8;
      raw[j] = chunk + j < end && i < a.k ? load_stream(w + i * 2) : make_uint4(0, 0, 0, 0);
    }
  };
  fetch(begin);
  pdl_wait();
  float sum = 0;
  for (int chunk = begin; chunk < end; chunk += kLoads) {
    float x[kLoads][8], v[8];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int i = (chunk + j) * 256 + lane * 8;
      if (chunk + j < end && i < a.k) {
        load8(a.x.data, DType::kBF16, i, x[j]);
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e) x[j][e] = 0;
      }
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      if constexpr (kHalf) {
        unpack_f16(raw[j], v);
      } else {
        unpack_bf16(raw[j], v);
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) sum += v[e] * x[j][e];
    }
    if (chunk + kLoads < end) fetch(chunk + kLoads);
  }
  sum = warp_sum(sum);
  if constexpr (kSplit > 1) {
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (lane != 0 || warp % kSplit != 0) return;
#pragma unroll
    for (int i = 1; i < kSplit; ++i) sum += partial[warp + i];
  }
  if (lane == 0 && active) store_result(part, a.softcap, 0, column, sum);
}

// Any type and any k: one warp a row of weights, four rows of x.
__global__ void __launch_bounds__(kWarps * 32)
    gemv_any_kernel(Weights w, GemvPart part, Mat x, int row0, float softcap) {
  constexpr int kX = 4;
  pdl_launch();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = blockIdx.x * kWarps + warp;
  if (column >= part.n) return;
  pdl_wait();
  float sum[kX] = {};
  for (int group = lane; group * 32 < w.k; group += 32) {
    float v[32];
    decode32(w, column, group, v);
#pragma unroll
    for (int r = 0; r < kX; ++r) {
      if (row0 + r >= x.rows) break;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        if (group * 32 + i < w.k) sum[r] += v[i] * load1(x.data, x.dtype, (row0 + r) * x.stride + group * 32 + i);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kX; ++r) {
    if (row0 + r >= x.rows) break;
    const float total = warp_sum(sum[r]);
    if (lane == 0) store_result(part, softcap, row0 + r, column, total);
  }
}

bool aligned(std::span<const LinearCall> calls) {
  for (const LinearCall& call : calls) {
    if (reinterpret_cast<uintptr_t>(call.linear->w.data) % 16 != 0) return false;
  }
  const Mat x = mat(calls[0].x);
  return wide(x) && x.dtype == DType::kBF16;
}

}  // namespace

void gemv_any(cudaStream_t stream, const LinearCall& call, bool planar) {
  GemvArgs args;
  const int blocks = gemv_args({&call, 1}, kWarps, args);
  const Weights w =
      weights(call.linear->shape, call.linear->w.data, planar, static_cast<const float*>(call.linear->scales.data));
  for (int row = 0; row < args.x.rows; row += 4) {
    launch("multiply few rows", gemv_any_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * 32), 0, stream, w,
           args.part[0], args.x, row, args.softcap);
  }
}

void gemv_plain(cudaStream_t stream, std::span<const LinearCall> calls) {
  const DType elem = calls[0].linear->shape.format.elem;
  const int64_t m = calls[0].x.shape[0];
  GemvArgs args;
  const dim3 threads(kWarps * 32);
  if (aligned(calls) && m == 1 && elem != DType::kF32) {
    const bool half = elem == DType::kF16;
    const bool split = gemv_args(calls, kWarps, args) * kWarps < 16384;
    const unsigned blocks = static_cast<unsigned>(gemv_args(calls, split ? kWarps / 2 : kWarps, args));
    auto* kernel = half ? (split ? gemv_kernel<true, 2> : gemv_kernel<true, 1>)
                        : (split ? gemv_kernel<false, 2> : gemv_kernel<false, 1>);
    launch("multiply one row", kernel, dim3(blocks), threads, 0, stream, args);
  } else {
    for (const LinearCall& call : calls) gemv_any(stream, call, false);
  }
}

}  // namespace baize::cuda
