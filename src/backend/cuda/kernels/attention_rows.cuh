// What the kernels of attention for few rows a sequence share: their arguments, the keys a block takes, and how the
// parts of a row's softmax come together (flash decoding, Dao et al. 2023): the block that finishes a row last merges
// them.
#pragma once

#include <cfloat>

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/paged.h"

namespace baize::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

inline constexpr int kRowsWarps = 4;    // of a block
inline constexpr int kMinKeys = 64;     // of a part
inline constexpr int kMostKept = 2048;  // parts of the heads of a block

struct RowsArgs {
  Mat q, out;
  Paged kv;
  const int* positions;
  const int* row_seq;
  const int* q_start;
  int most_rows;  // rows of sequences with more are not this kernel's
  float scale, softcap;
  int window;
  int heads, kv_heads, head_dim, group;  // group = heads / kv_heads
  int splits;
  float* partials;  // [rows, heads, splits, head_dim + 2]
  int* counters;    // [rows, kv_heads * chunks of the group]
  bool wide;
};

// attention_heads.cu, for memory that can be read 16 bytes at a time (a.wide).
inline constexpr int kHeadsOfBlock = 8;
bool heads_attention_supports(const AttnShape& shape, const KvView& kv);
int heads_attention_blocks(int64_t head_dim);  // that a multiprocessor holds
void attention_heads(cudaStream_t stream, const RowsArgs& a);

__device__ __forceinline__ bool is_mine(const RowsArgs& a, int64_t row) {
  const int seq = a.row_seq[row];
  return a.q_start[seq + 1] - a.q_start[seq] <= a.most_rows;
}

// The keys [begin, end) of this block's part (blockIdx.z) of a row, which sees [first, position].
struct PartOfKeys {
  int first, position;
  int parts;
  int begin, end;
};

__device__ __forceinline__ PartOfKeys part_of_keys(const RowsArgs& a, int64_t row) {
  PartOfKeys p;
  p.position = a.positions[row];
  p.first = a.window > 0 ? max(0, p.position - a.window + 1) : 0;
  const int keys = p.position + 1 - p.first;
  const int part_keys = max(kMinKeys, (keys + a.splits - 1) / a.splits);
  p.parts = (keys + part_keys - 1) / part_keys;
  p.begin = p.first + static_cast<int>(blockIdx.z) * part_keys;
  p.end = min(p.begin + part_keys, p.position + 1);
  return p;
}

// The weight of a softmax with maximum m in one with maximum `top`.
__device__ __forceinline__ float merge_scale(float m, float top) {
  return m == -FLT_MAX ? 0.0f : exp2f((m - top) * kLog2E);
}

/// What each warp of a block has of `heads` heads in shared memory: [warp][head] maximum and sum of the weights, and
/// [warp][head][dim] the weighted sum of the values.
struct WarpSums {
  const float* m;
  const float* l;
  const float* acc;
  int heads, dim;
  int acc_stride;  // of a warp
};

/// Merges the warps' sums of the heads from head0 on, then those of the other parts of the row. All threads call it.
__device__ inline void finish_row(const RowsArgs& a, int64_t row, int head0, int heads, int parts,
                                  const WarpSums& sums) {
  __shared__ bool last;
  __syncthreads();
  for (int i = threadIdx.x; i < heads * a.head_dim; i += kRowsWarps * 32) {
    const int g = i / a.head_dim, d = i % a.head_dim;
    float top = -FLT_MAX, sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kRowsWarps; ++w) top = fmaxf(top, sums.m[w * sums.heads + g]);
#pragma unroll
    for (int w = 0; w < kRowsWarps; ++w) {
      const float keep = merge_scale(sums.m[w * sums.heads + g], top);
      sum += sums.acc[w * sums.acc_stride + g * sums.dim + d] * keep;
      total += sums.l[w * sums.heads + g] * keep;
    }
    if (parts == 1) {
      store1(a.out.data, a.out.dtype, row * a.out.stride + (head0 + g) * a.head_dim + d, sum / total);
    } else {
      float* to = a.partials + ((row * a.heads + head0 + g) * a.splits + blockIdx.z) * (a.head_dim + 2);
      to[d] = sum;
      if (d == 0) {
        to[a.head_dim] = top;
        to[a.head_dim + 1] = total;
      }
    }
  }
  if (parts == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int* counter = a.counters + row * gridDim.y + blockIdx.y;
    last = atomicAdd(counter, 1) == parts - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  // The weight of each part, then all columns of all parts with many loads under way.
  __shared__ float keep[kMostKept];
  const int lane = threadIdx.x % 32, stride = a.head_dim + 2;
  const float* from = a.partials + (row * a.heads + head0) * a.splits * stride;
  for (int g = static_cast<int>(threadIdx.x) / 32; g < heads; g += kRowsWarps) {
    const float* mine = from + g * a.splits * stride + a.head_dim;
    float top = -FLT_MAX, total = 0;
    for (int p = lane; p < parts; p += 32) top = fmaxf(top, __ldcg(mine + p * stride));
    top = warp_max(top);
    for (int p = lane; p < parts; p += 32) {
      const float weight = merge_scale(__ldcg(mine + p * stride), top);
      total += weight * __ldcg(mine + p * stride + 1);
      keep[g * parts + p] = weight;
    }
    total = warp_sum(total);
    for (int p = lane; p < parts; p += 32) keep[g * parts + p] /= total;
  }
  __syncthreads();
  constexpr int kTogether = 8;
  const int count = heads * a.head_dim;
  for (int first = static_cast<int>(threadIdx.x); first < count; first += kTogether * kRowsWarps * 32) {
    float sum[kTogether] = {};
    const float *x[kTogether], *weight[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const int i = min(first + j * kRowsWarps * 32, count - 1), g = i / a.head_dim;
      x[j] = from + g * a.splits * stride + i % a.head_dim;
      weight[j] = keep + g * parts;
    }
#pragma unroll 3
    for (int p = 0; p < parts; ++p) {
#pragma unroll
      for (int j = 0; j < kTogether; ++j) sum[j] += weight[j][p] * __ldcg(x[j] + p * stride);
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const int i = first + j * kRowsWarps * 32;
      if (i < count) store1(a.out.data, a.out.dtype, row * a.out.stride + head0 * a.head_dim + i, sum[j]);
    }
  }
}

}  // namespace baize::cuda
