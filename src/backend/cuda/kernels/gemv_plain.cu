// Products of 1 to 16 rows with plain weights: bound by reading the weights once, so each kernel keeps many wide loads
// in flight and asks for its first weights before its predecessor has finished.
//  - one row: one warp a row of weights (or two, halving k), f32 arithmetic;
//  - 2 to 16 rows, bf16: sixteen rows of weights a block on the matrix units; a lane's 16 bytes of weights and of x are
//    two fragments whose k indices are permuted alike, so nothing is shuffled;
//  - other cases: four rows of x at a time in f32.
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

__device__ __forceinline__ void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                         uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Sixteen rows of weights a block; the eight warps share k in units of 128. kTiles tiles of eight rows of x.
template <int kTiles>
__global__ void __launch_bounds__(kWarps * 32) gemm_few_kernel(const __grid_constant__ GemvArgs a) {
  __shared__ float partial[kWarps][16][kTiles * 8 + 1];
  constexpr int kUnit = 128;
  pdl_launch();
  const GemvPart& part = a.part[find_part(a, blockIdx.x)];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int group = lane / 4, within = lane % 4 * 8;
  const int column0 = (blockIdx.x - part.first_block) * 16;
  const int64_t row_bytes = static_cast<int64_t>(a.k) * 2;
  const uint8_t* w0 = part.w + min(column0 + group, part.n - 1) * row_bytes;
  const uint8_t* w1 = part.w + min(column0 + group + 8, part.n - 1) * row_bytes;
  uint4 lo[4], hi[4];
  const auto fetch = [&](int unit) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int i = unit * kUnit + j * 32 + within;
      const bool inside = i < a.k;
      lo[j] = inside ? load_stream(w0 + i * 2) : make_uint4(0, 0, 0, 0);
      hi[j] = inside ? load_stream(w1 + i * 2) : make_uint4(0, 0, 0, 0);
    }
  };
  fetch(warp);
  pdl_wait();
  float sum[kTiles][4] = {};
  for (int unit = warp; unit * kUnit < a.k; unit += kWarps) {
    uint4 x[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int row = t * 8 + group;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = unit * kUnit + j * 32 + within;
        x[t][j] = make_uint4(0, 0, 0, 0);
        if (row < a.x.rows && i < a.k) {
          x[t][j] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(a.x.data) + row * a.x.stride + i);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        mma_bf16(sum[t], lo[j].x, hi[j].x, lo[j].y, hi[j].y, x[t][j].x, x[t][j].y);
        mma_bf16(sum[t], lo[j].z, hi[j].z, lo[j].w, hi[j].w, x[t][j].z, x[t][j].w);
      }
    }
    if ((unit + kWarps) * kUnit < a.k) fetch(unit + kWarps);
  }
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int row = t * 8 + lane % 4 * 2;
    partial[warp][group][row] = sum[t][0];
    partial[warp][group][row + 1] = sum[t][1];
    partial[warp][group + 8][row] = sum[t][2];
    partial[warp][group + 8][row + 1] = sum[t][3];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * kTiles * 8; i += kWarps * 32) {
    const int column = column0 + i % 16, row = i / 16;
    if (row >= a.x.rows || column >= part.n) continue;
    float v = 0;
#pragma unroll
    for (int j = 0; j < kWarps; ++j) v += partial[j][i % 16][row];
    store_result(part, a.softcap, row, column, v);
  }
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
  const Weights w = weights(call.linear->shape, call.linear->w.data, planar);
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
  } else if (aligned(calls) && m <= 16 && elem == DType::kBF16) {
    const unsigned blocks = static_cast<unsigned>(gemv_args(calls, 16, args));
    launch("multiply few rows", m <= 8 ? gemm_few_kernel<1> : gemm_few_kernel<2>, dim3(blocks), threads, 0, stream,
           args);
  } else {
    for (const LinearCall& call : calls) gemv_any(stream, call, false);
  }
}

}  // namespace baize::cuda
