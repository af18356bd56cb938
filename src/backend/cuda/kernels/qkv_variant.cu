// Queries, keys and values of every variant: layer norms, a weight a head, norms of values, norms behind the rotation,
// other value dimensions, temperatures, queries alone. And latent attention's queries and cache rows. One warp a head.
// Definition: ops/host_attention.cc.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"
#include "backend/cuda/kernels/rope.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int64_t kMaxHeadDim = 2048;

struct HeadNorm {
  const float* weight;  // null: none
  const float* bias;    // null: none
  float eps;
  bool center, each_head;
};

HeadNorm head_norm(const Norm& norm) {
  if (!norm.present()) return {};
  return {static_cast<const float*>(norm.weight.data),
          norm.bias.present() ? static_cast<const float*>(norm.bias.data) : nullptr, norm.eps, norm.center,
          norm.weight.shape.rank() > 1};
}

// Norms `dim` values in shared memory; callers synchronise the warp before, and this does so behind.
__device__ __forceinline__ void norm_head(const HeadNorm& norm, int head, int dim, int lane, float* x) {
  if (norm.weight == nullptr) return;
  float mean = 0, squares = 0;
  if (norm.center) {
    for (int i = lane; i < dim; i += 32) mean += x[i];
    mean = warp_sum(mean) / static_cast<float>(dim);
  }
  for (int i = lane; i < dim; i += 32) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + norm.eps);
  const int64_t at = norm.each_head ? static_cast<int64_t>(head) * dim : 0;
  for (int i = lane; i < dim; i += 32) {
    x[i] = (x[i] - mean) * scale * norm.weight[at + i] + (norm.bias != nullptr ? norm.bias[at + i] : 0.0f);
  }
  __syncwarp();
}

// Turns the first rope.rot values at x in shared memory; synchronised as norm_head.
__device__ __forceinline__ void rotate_head(const RopeArgs& rope, const float2* turns, int lane, float* x) {
  if (rope.inv_freq == nullptr) return;
  const int half = rope.rot / 2;
  for (int i = lane; i < half; i += 32) {
    const float2 by = turns[i];
    const int p0 = rope.interleaved ? 2 * i : i;
    const int p1 = rope.interleaved ? 2 * i + 1 : i + half;
    const float x0 = x[p0], x1 = x[p1];
    x[p0] = x0 * by.x - x1 * by.y;
    x[p1] = x1 * by.x + x0 * by.y;
  }
  __syncwarp();
}

// Cosines and sines of a row's pairs, by the whole block.
__device__ __forceinline__ void fill_turns(const RopeArgs& rope, int position, int length, float2* turns) {
  if (rope.inv_freq != nullptr) {
    for (int i = threadIdx.x; i < rope.rot / 2; i += kWarps * 32) turns[i] = turn(rope, i, position, length);
  }
  __syncthreads();
}

struct Place {
  const int* positions;
  const int* row_seq;
  const int* kv_len;
};

Place place_of(const StepInput& input) {
  return {static_cast<const int*>(input.positions.data), static_cast<const int*>(input.row_seq.data),
          static_cast<const int*>(input.kv_len.data)};
}

struct VariantArgs {
  Mat qkv, q;
  int64_t q_head;  // elements between heads of q
  Paged kv;
  RopeArgs rope;
  HeadNorm q_norm, k_norm, v_norm;
  Place place;
  int heads, kv_heads, head_dim, v_dim;
  bool norm_last, store;
  float temperature;
  int64_t temperature_length, temperature_offset;
};

__device__ __forceinline__ void prepare(const VariantArgs& a, const HeadNorm& norm, int head, const float2* turns,
                                        int lane, float* x) {
  if (!a.norm_last) norm_head(norm, head, a.head_dim, lane, x);
  rotate_head(a.rope, turns, lane, x);
  if (a.norm_last) norm_head(norm, head, a.head_dim, lane, x);
}

// A block takes every gridDim.y-th group of heads of a row: query heads, then key heads, then value heads.
__global__ void __launch_bounds__(kWarps * 32) qkv_variant_kernel(const __grid_constant__ VariantArgs a) {
  extern __shared__ float memory[];
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto* turns = reinterpret_cast<float2*>(memory);
  float* x = memory + a.rope.rot + warp * max(a.head_dim, a.v_dim);
  const int64_t row = blockIdx.x;
  const int position = a.place.positions[row], seq = a.place.row_seq[row];
  const int64_t page = a.store ? a.kv.table[static_cast<int64_t>(seq) * a.kv.table_stride + position / a.kv.block] : -1;
  const int64_t slot = position % a.kv.block;
  fill_turns(a.rope, position, a.place.kv_len[seq], turns);
  const int stored = a.store ? a.kv_heads * (a.v_dim > 0 ? 2 : 1) : 0;
  for (int item = static_cast<int>(blockIdx.y) * kWarps + warp; item < a.heads + stored;
       item += static_cast<int>(gridDim.y) * kWarps) {
    const bool is_query = item < a.heads, is_value = item >= a.heads + a.kv_heads;
    const int head = is_query ? item : is_value ? item - a.heads - a.kv_heads : item - a.heads;
    const int dim = is_value ? a.v_dim : a.head_dim;
    const int64_t first = is_value ? static_cast<int64_t>(a.heads + a.kv_heads) * a.head_dim + head * a.v_dim
                                   : static_cast<int64_t>(item) * a.head_dim;
    for (int i = lane; i < dim; i += 32) x[i] = load1(a.qkv.data, a.qkv.dtype, row * a.qkv.stride + first + i);
    __syncwarp();
    if (is_value) {
      norm_head(a.v_norm, head, dim, lane, x);
    } else {
      prepare(a, is_query ? a.q_norm : a.k_norm, head, turns, lane, x);
    }
    if (is_query) {
      float factor = 1;
      if (a.temperature != 0) {
        const int64_t steps = (position + a.temperature_offset) / a.temperature_length;
        factor = 1.0f + a.temperature * logf(1.0f + static_cast<float>(steps));
      }
      for (int i = lane; i < dim; i += 32) {
        store1(a.q.data, a.q.dtype, row * a.q.stride + head * a.q_head + i, x[i] * factor);
      }
    } else if (page >= 0) {  // else it slid out of the window already: never read
      const int64_t at = is_value ? page * a.kv.v_page + slot * a.kv.v_token + head * a.kv.v_head
                                  : page * a.kv.k_page + slot * a.kv.k_token + head * a.kv.k_head;
      for (int i = lane; i < dim; i += 32) store1(is_value ? a.kv.v : a.kv.k, a.kv.dtype, at + i, x[i]);
    }
    __syncwarp();
  }
}

struct LatentKernelArgs {
  Mat queries, kv, q;
  int64_t q_head;
  Paged view;
  RopeArgs rope;
  Place place;
  int heads, nope_dim, rope_dim, kv_rank;
};

// Item 0 is the row of the cache; item 1 + h the rotated part of query h.
__global__ void __launch_bounds__(kWarps * 32) latent_kernel(const __grid_constant__ LatentKernelArgs a) {
  extern __shared__ float memory[];
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto* turns = reinterpret_cast<float2*>(memory);
  float* x = memory + a.rope.rot + warp * a.rope_dim;
  const int64_t row = blockIdx.x;
  const int position = a.place.positions[row], seq = a.place.row_seq[row];
  fill_turns(a.rope, position, a.place.kv_len[seq], turns);
  const int64_t width = a.nope_dim + a.rope_dim;
  for (int item = static_cast<int>(blockIdx.y) * kWarps + warp; item <= a.heads;
       item += static_cast<int>(gridDim.y) * kWarps) {
    const Mat& from = item == 0 ? a.kv : a.queries;
    const int64_t first = row * from.stride + (item == 0 ? a.kv_rank : (item - 1) * width + a.nope_dim);
    for (int i = lane; i < a.rope_dim; i += 32) x[i] = load1(from.data, from.dtype, first + i);
    __syncwarp();
    rotate_head(a.rope, turns, lane, x);
    if (item > 0) {
      const int64_t to = row * a.q.stride + (item - 1) * a.q_head + a.kv_rank;
      for (int i = lane; i < a.rope_dim; i += 32) store1(a.q.data, a.q.dtype, to + i, x[i]);
    } else {
      const int64_t page = a.view.table[static_cast<int64_t>(seq) * a.view.table_stride + position / a.view.block];
      const int64_t at = page * a.view.k_page + position % a.view.block * a.view.k_token;
      for (int i = lane; i < a.kv_rank && page >= 0; i += 32) {
        store1(a.view.k, a.view.dtype, at + i, load1(a.kv.data, a.kv.dtype, row * a.kv.stride + i));
      }
      for (int i = lane; i < a.rope_dim && page >= 0; i += 32) {
        store1(a.view.k, a.view.dtype, at + a.kv_rank + i, x[i]);
      }
    }
    __syncwarp();
  }
}

unsigned groups_of(int64_t items) {
  return static_cast<unsigned>(std::min<int64_t>((items + kWarps - 1) / kWarps, 64));
}

}  // namespace

void qkv_variant(cudaStream_t stream, const QkvArgs& args, const StepInput& input, const Tensor& qkv, const KvView& kv,
                 const Tensor& q) {
  const AttnShape& s = args.shape;
  const int64_t v_dim = kv.v.shape[3], widest = std::max(s.head_dim, v_dim);
  if (widest > kMaxHeadDim) unsupported("the CUDA backend has no attention for heads of more than 2,048 dimensions");
  const VariantArgs a{mat(qkv),
                      mat(q),
                      q.strides[1],
                      paged(kv, input),
                      rope_args(args.rope),
                      head_norm(args.q_norm),
                      head_norm(args.k_norm),
                      head_norm(args.v_norm),
                      place_of(input),
                      static_cast<int>(s.heads),
                      static_cast<int>(s.kv_heads),
                      static_cast<int>(s.head_dim),
                      static_cast<int>(v_dim),
                      args.norm_last,
                      args.store,
                      args.temperature.scale,
                      args.temperature.length,
                      args.temperature.offset};
  launch("store keys and values", qkv_variant_kernel,
         dim3(static_cast<unsigned>(qkv.shape[0]), groups_of(s.heads + 2 * s.kv_heads)), dim3(kWarps * 32),
         static_cast<size_t>(kWarps * widest + a.rope.rot) * sizeof(float), stream, a);
}

void latent_store(cudaStream_t stream, const LatentArgs& args, const StepInput& input, const Tensor& queries,
                  const Tensor& kv, const KvView& view, const Tensor& q) {
  if (args.rope_dim > kMaxHeadDim) unsupported("the CUDA backend has no rotation of more than 2,048 dimensions");
  const LatentKernelArgs a{mat(queries),
                           mat(kv),
                           mat(q),
                           q.strides[1],
                           paged(view, input),
                           rope_args(args.rope),
                           place_of(input),
                           static_cast<int>(args.heads),
                           static_cast<int>(args.nope_dim),
                           static_cast<int>(args.rope_dim),
                           static_cast<int>(args.kv_rank)};
  launch("store latent keys", latent_kernel, dim3(static_cast<unsigned>(kv.shape[0]), groups_of(args.heads + 1)),
         dim3(kWarps * 32), static_cast<size_t>(kWarps * args.rope_dim + a.rope.rot) * sizeof(float), stream, a);
}

}  // namespace baize::cuda
