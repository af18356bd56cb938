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

struct CombineArgs {
  Mat results;
  const int* ids;
  const float* weights;  // null: 1
  int top_k, experts;
  Mat out;
  // then, if not null
  float* residual;
  int64_t residual_stride;
  const float* norm_weight;
  float eps;
  Mat normed;
};

// Columns [i, i + kStep) of the sum over a row's pairs, in their order, of weight * result.
template <int kStep>
__device__ __forceinline__ void sum_pairs(const CombineArgs& a, int64_t row, int i, float (&sum)[kStep]) {
#pragma unroll
  for (float& s : sum) s = 0;
#pragma unroll 8
  for (int k = 0; k < a.top_k; ++k) {
    const int64_t pair = row * a.top_k + k;
    const bool chosen = a.ids[pair] >= 0 && a.ids[pair] < a.experts;
    const float weight = a.weights != nullptr ? a.weights[pair] : 1.0f;
    float v[kStep];  // of no expert: whatever was there
    if constexpr (kStep == 8) {
      load8(a.results.data, a.results.dtype, pair * a.results.stride + i, v);
    } else {
      v[0] = load1(a.results.data, a.results.dtype, pair * a.results.stride + i);
    }
#pragma unroll
    for (int j = 0; j < kStep; ++j) sum[j] += chosen ? weight * v[j] : 0.0f;
  }
}

template <bool kWide>
__global__ void __launch_bounds__(256) combine_kernel(const __grid_constant__ CombineArgs a) {
  constexpr int kStep = kWide ? 8 : 1;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int i = (blockIdx.y * 256 + threadIdx.x) * kStep;
  if (i >= a.out.cols) return;
  float sum[kStep];
  sum_pairs(a, row, i, sum);
  if constexpr (kWide) {
    store8(a.out.data, a.out.dtype, row * a.out.stride + i, sum);
  } else {
    store1(a.out.data, a.out.dtype, row * a.out.stride + i, sum[0]);
  }
}

// The sum, and what usually comes next: residual += sum, and its norm. A block a row, eight columns a thread.
__global__ void __launch_bounds__(1024) combine_norm_kernel(const __grid_constant__ CombineArgs a) {
  __shared__ float shared[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int i = static_cast<int>(threadIdx.x) * 8;
  const bool inside = i < a.out.cols;
  float v[8], squares = 0;
  if (inside) {
    sum_pairs(a, row, i, v);
    store8(a.out.data, DType::kBF16, row * a.out.stride + i, v);
    float* residual = a.residual + row * a.residual_stride + i;
    float r[8];
    load8(residual, DType::kF32, 0, r);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      v[j] = r[j] + __bfloat162float(__float2bfloat16_rn(v[j]));  // as the sum by itself is stored
      squares += v[j] * v[j];
    }
    store8(residual, DType::kF32, 0, v);
  }
  const float scale = rsqrtf(block_sum(squares, shared) / static_cast<float>(a.out.cols) + a.eps);
  if (!inside) return;
  float w[8];
  load8(a.norm_weight, DType::kF32, i, w);
#pragma unroll
  for (int j = 0; j < 8; ++j) w[j] *= v[j] * scale;
  store8(a.normed.data, DType::kBF16, row * a.normed.stride + i, w);
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

bool combine_supports(const Tensor& results, const Tensor& out, const AddedNorm& then) {
  const Mat residual = mat(then.residual), normed = mat(then.out), from = mat(results), to = mat(out);
  return wide(residual) && wide(normed) && wide(from) && wide(to) && residual.dtype == DType::kF32 &&
         normed.dtype == DType::kBF16 && to.dtype == DType::kBF16 && to.cols <= 8192;
}

void combine_experts(cudaStream_t stream, const PairGroups& groups, const Tensor& results, const Routing& routing,
                     const Tensor& out, const AddedNorm& then) {
  CombineArgs a{};
  a.results = mat(results);
  a.ids = static_cast<const int*>(routing.ids.data);
  a.weights = routing.weights.present() ? static_cast<const float*>(routing.weights.data) : nullptr;
  a.top_k = static_cast<int>(routing.ids.shape[1]);
  a.experts = static_cast<int>(groups.experts);
  a.out = mat(out);
  const auto rows = static_cast<unsigned>(a.out.rows);
  if (then.out.present()) {
    a.residual = static_cast<float*>(then.residual.data);
    a.residual_stride = then.residual.strides[0];
    a.norm_weight = static_cast<const float*>(then.norm.weight.data);
    a.eps = then.norm.eps;
    a.normed = mat(then.out);
    const auto threads = static_cast<unsigned>((a.out.cols + 255) / 256 * 32);
    launch("sum experts and norm", combine_norm_kernel, dim3(rows), dim3(threads), 0, stream, a);
    return;
  }
  const bool is_wide = wide(a.results) && wide(a.out);
  const int columns = is_wide ? 256 * 8 : 256;
  launch("sum experts", is_wide ? combine_kernel<true> : combine_kernel<false>,
         dim3(rows, static_cast<unsigned>((a.out.cols + columns - 1) / columns)), dim3(256), 0, stream, a);
}

}  // namespace baize::cuda
