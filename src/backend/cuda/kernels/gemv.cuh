// What the products of few rows share: the parts of one launch, and how results are stored.
#pragma once

#include <span>

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

inline constexpr int kMaxParts = 4;

struct GemvPart {
  const uint8_t* w;
  const float* bias;
  const float* scales;  // of fp8 weights
  void* out;
  int64_t out_stride;
  DType out_dtype;
  int n;
  float alpha;
  int first_block;  // of the grid
};

struct GemvArgs {
  GemvPart part[kMaxParts];
  int parts;
  int k;
  Mat x;
  float softcap;
};

/// Fills the parts, merging neighbours whose weights and results are adjacent in memory, and returns the number of
/// blocks when each takes `rows_per_block` rows of weights.
inline int gemv_args(std::span<const LinearCall> calls, int rows_per_block, GemvArgs& args) {
  args.parts = 0;
  args.x = mat(calls[0].x);
  args.k = args.x.cols;
  args.softcap = calls[0].epilogue.softcap;
  for (const LinearCall& call : calls) {
    const Linear& l = *call.linear;
    const GemvPart next{static_cast<const uint8_t*>(l.w.data),
                        static_cast<const float*>(l.bias.data),
                        static_cast<const float*>(l.scales.data),
                        call.out.data,
                        call.out.strides[0],
                        call.out.dtype,
                        static_cast<int>(l.shape.n),
                        l.alpha,
                        0};
    if (args.parts > 0) {
      GemvPart& last = args.part[args.parts - 1];
      const bool fp8 = next.scales != nullptr;
      const int64_t last_bytes = last.n * (fp8 ? l.shape.k : l.shape.format.row_bytes(l.shape.k));
      const bool one_scale_list = !fp8 || (l.shape.format.group == 0 && last.scales + last.n == next.scales);
      const bool adjacent = one_scale_list && last.w + last_bytes == next.w && last.bias == nullptr &&
                            next.bias == nullptr && last.alpha == next.alpha &&
                            static_cast<char*>(last.out) + last.n * dtype_bytes(last.out_dtype) == next.out;
      if (adjacent) {
        last.n += next.n;
        continue;
      }
    }
    args.part[args.parts++] = next;
  }
  int blocks = 0;
  for (int i = 0; i < args.parts; ++i) {
    args.part[i].first_block = blocks;
    blocks += (args.part[i].n + rows_per_block - 1) / rows_per_block;
  }
  return blocks;
}

__device__ __forceinline__ int find_part(const GemvArgs& args, int block) {
  int p = 0;
#pragma unroll
  for (int i = 1; i < kMaxParts; ++i) p = i < args.parts && block >= args.part[i].first_block ? i : p;
  return p;
}

__device__ __forceinline__ void store_result(const GemvPart& part, float softcap, int row, int column, float sum) {
  float v = part.alpha * sum + (part.bias != nullptr ? part.bias[column] : 0.0f);
  if (softcap > 0) v = softcap * tanhf(v / softcap);
  store1(part.out, part.out_dtype, row * part.out_stride + column, v);
}

}  // namespace baize::cuda
