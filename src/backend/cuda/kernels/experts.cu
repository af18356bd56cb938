// Feed-forwards of experts without a host round trip. A pair is a row and one of its experts. Pairs are grouped by
// expert on the device; the products' blocks take an item each, some pairs of one expert, and a stretch of columns.
//  - few pairs an expert: one warp a column, four pairs of an item at a time, bound by reading the weights;
//  - many: tiles of pairs by columns, a tile of weights decoded once for all its pairs: in bf16 on the matrix units, or
//    in f32 arithmetic.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/mma.cuh"

namespace baize::cuda {

namespace {

constexpr int kGroupThreads = 1024;
constexpr int kMostExperts = 4096;

struct GroupArgs {
  const int* ids;
  int pairs, experts, rows_of_item;
  int* order;
  int4* items;  // expert, first of its pairs in `order`, how many
  int* count;
};

// An exclusive sum over the warp; `total` becomes that of all lanes.
__device__ __forceinline__ int warp_scan(int v, int lane, int& total) {
  int sum = v;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const int below = __shfl_up_sync(~0u, sum, o);
    if (lane >= o) sum += below;
  }
  total = __shfl_sync(~0u, sum, 31);
  return sum - v;
}

// One block for all.
__global__ void __launch_bounds__(kGroupThreads) group_kernel(const __grid_constant__ GroupArgs a) {
  extern __shared__ int shared[];
  int* counts = shared;
  int* starts = shared + a.experts;
  int* first_item = shared + 2 * a.experts;
  pdl_launch();
  pdl_wait();
  for (int e = threadIdx.x; e < a.experts; e += kGroupThreads) counts[e] = 0;
  __syncthreads();
  for (int p = threadIdx.x; p < a.pairs; p += kGroupThreads) {
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) atomicAdd(&counts[id], 1);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int lane = static_cast<int>(threadIdx.x);
    int pairs = 0, items = 0;
    for (int e0 = 0; e0 < a.experts; e0 += 32) {
      const int e = e0 + lane;
      const int count = e < a.experts ? counts[e] : 0;
      int all_pairs = 0, all_items = 0;
      const int start = warp_scan(count, lane, all_pairs);
      const int item = warp_scan((count + a.rows_of_item - 1) / a.rows_of_item, lane, all_items);
      if (e < a.experts) {
        starts[e] = pairs + start;
        first_item[e] = items + item;
      }
      pairs += all_pairs;
      items += all_items;
    }
    if (lane == 0) *a.count = items;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < a.experts; e += kGroupThreads) {
    for (int at = 0, i = first_item[e]; at < counts[e]; at += a.rows_of_item, ++i) {
      a.items[i] = make_int4(e, starts[e] + at, min(a.rows_of_item, counts[e] - at), 0);
    }
  }
  __syncthreads();  // `starts` now counts what is placed
  for (int p = threadIdx.x; p < a.pairs; p += kGroupThreads) {
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) a.order[atomicAdd(&starts[id], 1)] = p;
  }
}

struct ProductArgs {
  Weights w;  // of all experts, without the data
  const ExpertWeights* experts;
  const int* order;
  const int4* items;
  const int* count;
  Mat x;
  int pairs_of_row;      // of x
  const float* factors;  // of each pair's row of x; null: none
  Mat out;               // a row a pair
};

__device__ __forceinline__ float finished(const ExpertWeights& e, int column, float sum) {
  return e.alpha * sum + (e.bias != nullptr ? e.bias[column] : 0.0f);
}

constexpr int kWarps = 8;
constexpr int kFewRows = 4;

// kWide: 16-bit weights and rows of x that can be read 16 bytes at a time.
template <bool kWide>
__global__ void __launch_bounds__(kWarps * 32) expert_rows_kernel(const __grid_constant__ ProductArgs a) {
  pdl_launch();
  pdl_wait();
  if (static_cast<int>(blockIdx.y) >= *a.count) return;
  const int4 item = a.items[blockIdx.y];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int column = blockIdx.x * kWarps + warp;
  if (column >= a.out.cols) return;
  const ExpertWeights expert = a.experts[item.x];
  Weights w = a.w;
  w.data = expert.w;
  w.scales = expert.scales;
  int pair[kFewRows];
  float sum[kFewRows] = {};
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) pair[r] = r < item.z ? a.order[item.y + r] : -1;
  if constexpr (kWide) {
    const uint8_t* row = w.data + column * w.row_bytes;
#pragma unroll 4
    for (int i = lane * 8; i < w.k; i += 256) {
      float v[8];
      const uint4 raw = load_stream(row + i * 2);
      if (w.elem == DType::kBF16) {
        unpack_bf16(raw, v);
      } else {
        unpack_f16(raw, v);
      }
#pragma unroll
      for (int r = 0; r < kFewRows; ++r) {
        if (r >= item.z) break;
        float x[8];
        load8(a.x.data, a.x.dtype, pair[r] / a.pairs_of_row * a.x.stride + i, x);
#pragma unroll
        for (int e = 0; e < 8; ++e) sum[r] += v[e] * x[e];
      }
    }
  } else {
    for (int group = lane; group * 32 < w.k; group += 32) {
      float v[32];
      decode32(w, column, group, v);
#pragma unroll
      for (int r = 0; r < kFewRows; ++r) {
        if (r >= item.z) break;
        const int64_t from = pair[r] / a.pairs_of_row * a.x.stride + group * 32;
#pragma unroll
        for (int i = 0; i < 32; ++i) {
          if (group * 32 + i < w.k) sum[r] += v[i] * load1(a.x.data, a.x.dtype, from + i);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) {
    if (r >= item.z) break;
    float total = warp_sum(sum[r]);
    if (a.factors != nullptr) total *= a.factors[pair[r]];
    if (lane == 0) store1(a.out.data, a.out.dtype, pair[r] * a.out.stride + column, finished(expert, column, total));
  }
}

constexpr int kTileRows = 32, kTileCols = 64, kTileThreads = 256;

__global__ void __launch_bounds__(kTileThreads) expert_tile_kernel(const __grid_constant__ ProductArgs a) {
  __shared__ float xs[kTileRows][33];
  __shared__ float ws[kTileCols][33];
  __shared__ int pair[kTileRows];
  pdl_launch();
  pdl_wait();
  if (static_cast<int>(blockIdx.y) >= *a.count) return;
  const int4 item = a.items[blockIdx.y];
  const ExpertWeights expert = a.experts[item.x];
  Weights w = a.w;
  w.data = expert.w;
  w.scales = expert.scales;
  if (threadIdx.x < kTileRows) {
    pair[threadIdx.x] = static_cast<int>(threadIdx.x) < item.z ? a.order[item.y + static_cast<int>(threadIdx.x)] : -1;
  }
  __syncthreads();
  const int col0 = blockIdx.x * kTileCols;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;  // outputs: rows ty, ty + 16; columns tx + 16 * j
  float sum[2][4] = {};
  for (int group = 0; group * 32 < w.k; ++group) {
    for (int i = threadIdx.x; i < kTileRows * 32; i += kTileThreads) {
      const int p = pair[i / 32], k = group * 32 + i % 32;
      xs[i / 32][i % 32] = p >= 0 && k < w.k ? load1(a.x.data, a.x.dtype, p / a.pairs_of_row * a.x.stride + k) : 0.0f;
    }
    if (threadIdx.x < kTileCols) {
      float v[32] = {};
      if (col0 + static_cast<int>(threadIdx.x) < a.out.cols) decode32(w, col0 + threadIdx.x, group, v);
#pragma unroll
      for (int i = 0; i < 32; ++i) ws[threadIdx.x][i] = v[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 32; ++k) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += xs[ty + 16 * i][k] * ws[tx + 16 * j][k];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int p = pair[ty + 16 * i];
    if (p < 0) continue;
    const float factor = a.factors != nullptr ? a.factors[p] : 1.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int c = col0 + tx + 16 * j;
      if (c < a.out.cols) {
        store1(a.out.data, a.out.dtype, p * a.out.stride + c, finished(expert, c, sum[i][j] * factor));
      }
    }
  }
}

constexpr int kMatrixRows = 64, kMatrixCols = 128, kMatrixK = 32;
constexpr int kMatrixStride = kMatrixK + 8;  // of rows in shared memory, so that eight of them meet different banks

// Eight warps, each 32 pairs by 32 columns; the next step's tiles are fetched while this one's are multiplied. kPlain:
// bf16 weights that can be read 16 bytes at a time.
template <bool kPlain>
__global__ void __launch_bounds__(256, 1) expert_matrix_kernel(const __grid_constant__ ProductArgs a) {
  __shared__ __align__(16) uint16_t xs[2][kMatrixRows * kMatrixStride];
  __shared__ __align__(16) uint16_t ws[2][kMatrixCols * kMatrixStride];
  __shared__ int pair[kMatrixRows];
  pdl_launch();
  pdl_wait();
  if (static_cast<int>(blockIdx.y) >= *a.count) return;
  const int4 item = a.items[blockIdx.y];
  const ExpertWeights expert = a.experts[item.x];
  Weights w = a.w;
  w.data = expert.w;
  w.scales = expert.scales;
  const int tid = static_cast<int>(threadIdx.x), lane = tid % 32, warp = tid / 32;
  if (tid < kMatrixRows) pair[tid] = tid < item.z ? a.order[item.y + tid] : -1;
  __syncthreads();
  const int col0 = static_cast<int>(blockIdx.x) * kMatrixCols;
  const int own = tid / 4, chunk = tid % 4 * 8;  // the row and the elements that this thread fetches
  const int own_pair = pair[own];
  const uint16_t* x = static_cast<const uint16_t*>(a.x.data) + max(own_pair, 0) / a.pairs_of_row * a.x.stride;
  uint4 x_next, w_next[kPlain ? 2 : 4];
  const auto fetch = [&](int step) {
    const int k = step * kMatrixK + chunk;
    const uint4 none = make_uint4(0, 0, 0, 0);
    x_next = own_pair >= 0 && k < w.k ? *reinterpret_cast<const uint4*>(x + k) : none;
    if constexpr (kPlain) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = col0 + own + i * 64;
        w_next[i] = column < a.out.cols && k < w.k
                        ? *reinterpret_cast<const uint4*>(w.data + column * w.row_bytes + k * 2)
                        : none;
      }
    } else if (tid < kMatrixCols) {
      float v[32] = {};
      if (col0 + tid < a.out.cols) decode32(w, col0 + tid, step, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        w_next[i] = make_uint4(pack_bf16(v[8 * i], v[8 * i + 1]), pack_bf16(v[8 * i + 2], v[8 * i + 3]),
                               pack_bf16(v[8 * i + 4], v[8 * i + 5]), pack_bf16(v[8 * i + 6], v[8 * i + 7]));
      }
    }
  };
  const auto keep = [&](int buffer) {
    *reinterpret_cast<uint4*>(&xs[buffer][own * kMatrixStride + chunk]) = x_next;
    if constexpr (kPlain) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        *reinterpret_cast<uint4*>(&ws[buffer][(own + i * 64) * kMatrixStride + chunk]) = w_next[i];
      }
    } else if (tid < kMatrixCols) {
#pragma unroll
      for (int i = 0; i < 4; ++i) *reinterpret_cast<uint4*>(&ws[buffer][tid * kMatrixStride + 8 * i]) = w_next[i];
    }
  };
  const int row0 = warp % 2 * 32, column0 = warp / 2 * 32;
  float sum[2][4][4] = {};
  const int steps = (w.k + kMatrixK - 1) / kMatrixK;
  fetch(0);
  keep(0);
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) fetch(step + 1);
    const uint16_t* xt = xs[step % 2];
    const uint16_t* wt = ws[step % 2];
#pragma unroll
    for (int k = 0; k < kMatrixK; k += 16) {
      uint32_t left[2][4], right[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = row0 + i * 16 + lane % 16;
        load_matrix(left[i], shared_address(&xt[row * kMatrixStride + k + lane / 16 * 8]));
        const int column = column0 + i * 16 + lane / 16 * 8 + lane % 8;
        load_matrix(right[i], shared_address(&wt[column * kMatrixStride + k + lane / 8 % 2 * 8]));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) mma(sum[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
    if (step + 1 < steps) keep((step + 1) % 2);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int p = pair[row0 + i * 8 + lane / 4];  // of sum[i / 2][][i % 2 * 2 ..]
    if (p < 0) continue;
    const float factor = a.factors != nullptr ? a.factors[p] : 1.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int column = col0 + column0 + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (column >= a.out.cols) continue;
      const float v = sum[i / 2][j / 2][i % 2 * 2 + j % 2] * factor;
      store1(a.out.data, a.out.dtype, p * a.out.stride + column, finished(expert, column, v));
    }
  }
}

// out[row] = the sum over its pairs of weight * result. kWide: eight columns a thread.
template <bool kWide>
__global__ void __launch_bounds__(256)
    combine_kernel(Mat results, const int* ids, const float* weights, int top_k, int experts, Mat out) {
  constexpr int kStep = kWide ? 8 : 1;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int i = (blockIdx.y * 256 + threadIdx.x) * kStep;
  if (i >= out.cols) return;
  float sum[kStep] = {};
#pragma unroll 4
  for (int k = 0; k < top_k; ++k) {
    const int64_t pair = row * top_k + k;
    if (ids[pair] < 0 || ids[pair] >= experts) continue;
    const float weight = weights != nullptr ? weights[pair] : 1.0f;
    float v[kStep];
    if constexpr (kWide) {
      load8(results.data, results.dtype, pair * results.stride + i, v);
    } else {
      v[0] = load1(results.data, results.dtype, pair * results.stride + i);
    }
#pragma unroll
    for (int j = 0; j < kStep; ++j) sum[j] += weight * v[j];
  }
  if constexpr (kWide) {
    store8(out.data, out.dtype, row * out.stride + i, sum);
  } else {
    store1(out.data, out.dtype, row * out.stride + i, sum[0]);
  }
}

}  // namespace

PairGroups plan_pair_groups(int64_t pairs, int64_t experts, PairProducts products) {
  PairGroups groups;
  groups.pairs = pairs;
  groups.experts = experts;
  groups.rows_of_item = pairs <= kFewRows * experts           ? kFewRows
                        : products == PairProducts::kMatrices ? kMatrixRows
                                                              : kTileRows;
  if (products == PairProducts::kTiles) groups.rows_of_item = expert_tile_pairs(pairs, experts);
  groups.most_items = std::min(pairs, pairs / groups.rows_of_item + experts);
  groups.item_slots = std::min(pairs, pairs / kFewRows + experts);
  return groups;
}

void group_pairs(cudaStream_t stream, const PairGroups& groups, const Tensor& ids) {
  if (groups.experts > kMostExperts) unsupported("the CUDA backend has no layers of more than 4,096 experts");
  const GroupArgs a{static_cast<const int*>(ids.data),    static_cast<int>(groups.pairs),
                    static_cast<int>(groups.experts),     groups.rows_of_item,
                    static_cast<int*>(groups.order.data), static_cast<int4*>(groups.items.data),
                    static_cast<int*>(groups.count.data)};
  launch("group rows by expert", group_kernel, dim3(1), dim3(kGroupThreads),
         3 * static_cast<size_t>(a.experts) * sizeof(int), stream, a);
}

void multiply_experts(cudaStream_t stream, const ExpertPart& part, const PairGroups& groups, const Tensor& x,
                      const Tensor& factors, const Tensor& out) {
  ProductArgs a{weights(part.shape, nullptr, part.planar),
                part.experts,
                static_cast<const int*>(groups.order.data),
                static_cast<const int4*>(groups.items.data),
                static_cast<const int*>(groups.count.data),
                mat(x),
                static_cast<int>(groups.pairs / x.shape[0]),
                factors.present() ? static_cast<const float*>(factors.data) : nullptr,
                mat(out)};
  const auto items = static_cast<unsigned>(groups.most_items);
  const auto blocks = [&](int cols) { return static_cast<unsigned>((a.out.cols + cols - 1) / cols); };
  if (groups.rows_of_item == kMatrixRows) {
    const bool is_plain = part.wide && a.w.plain && a.w.elem == DType::kBF16;
    launch("multiply by experts", is_plain ? expert_matrix_kernel<true> : expert_matrix_kernel<false>,
           dim3(blocks(kMatrixCols), items), dim3(256), 0, stream, a);
    return;
  }
  if (groups.rows_of_item == kTileRows) {
    launch("multiply by experts", expert_tile_kernel, dim3(blocks(kTileCols), items), dim3(kTileThreads), 0, stream, a);
    return;
  }
  const bool is_wide = part.wide && a.w.plain && a.w.elem != DType::kF32 && a.w.k % 8 == 0 && wide(a.x);
  launch("multiply by experts", is_wide ? expert_rows_kernel<true> : expert_rows_kernel<false>,
         dim3(blocks(kWarps), items), dim3(kWarps * 32), 0, stream, a);
}

void combine_experts(cudaStream_t stream, const PairGroups& groups, const Tensor& results, const Tensor& ids,
                     const Tensor& weights, const Tensor& out) {
  const Mat to = mat(out), from = mat(results);
  const bool is_wide = wide(from) && wide(to);
  const int columns = is_wide ? 256 * 8 : 256;
  launch("sum experts", is_wide ? combine_kernel<true> : combine_kernel<false>,
         dim3(static_cast<unsigned>(to.rows), static_cast<unsigned>((to.cols + columns - 1) / columns)), dim3(256), 0,
         stream, from, static_cast<const int*>(ids.data),
         weights.present() ? static_cast<const float*>(weights.data) : nullptr, static_cast<int>(ids.shape[1]),
         static_cast<int>(groups.experts), to);
}

}  // namespace baize::cuda
