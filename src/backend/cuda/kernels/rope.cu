// Query and key norms, rotary embedding, and the store of keys and values in the paged cache, in one pass over qkv.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"
#include "backend/cuda/kernels/rope.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 1024;
constexpr unsigned kManyRows = 512;
constexpr int kWideThreads = 256;

struct QkvKernelArgs {
  Mat qkv, q;
  Paged kv;
  RopeArgs rope;
  NormArgs q_norm, k_norm;
  const int* positions;
  const int* row_seq;
  const int* kv_len;
  int heads, kv_heads, head_dim;
  bool pairs;
};

// Stores the head at `x` where it belongs: with the queries, or in the cache.
__device__ __forceinline__ void store_head(const QkvKernelArgs& a, int64_t row, int head, int lane, int position,
                                           int64_t page, const float* x) {
  void* to = a.q.data;
  DType type = a.q.dtype;
  int64_t at = row * a.q.stride + static_cast<int64_t>(head) * a.head_dim;
  if (head >= a.heads) {
    if (page < 0) return;  // slid out of the window already: never read
    const Paged& kv = a.kv;
    const int64_t slot = position % kv.block;
    const bool is_value = head >= a.heads + a.kv_heads;
    type = kv.dtype;
    to = is_value ? kv.v : kv.k;
    at = is_value ? page * kv.v_page + slot * kv.v_token + (head - a.heads - a.kv_heads) * kv.v_head
                  : page * kv.k_page + slot * kv.k_token + (head - a.heads) * kv.k_head;
  }
  if (a.pairs) {
    for (int i = lane * 2; i < a.head_dim; i += 64) {
      *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(to) + at + i) = pack_bf16(x[i], x[i + 1]);
    }
  } else {
    for (int i = lane; i < a.head_dim; i += 32) store1(to, type, at + i, x[i]);
  }
}

// kLanes neighbours share a head.
template <int kLanes>
__device__ __forceinline__ void norm_head(const NormArgs& norm, int within, float (&lo)[8], float (&hi)[8]) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum += lo[i] * lo[i] + hi[i] * hi[i];
#pragma unroll
  for (int o = kLanes / 2; o > 0; o >>= 1) sum += __shfl_xor_sync(__activemask(), sum, o, kLanes);
  const float scale = rsqrtf(sum / static_cast<float>(16 * kLanes) + norm.eps);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    lo[i] *= scale * norm.weight[within + i];
    hi[i] *= scale * norm.weight[within + kLanes * 8 + i];
  }
}

// A block takes every gridDim.x-th group of heads of a row, a warp a head: query heads, then key heads, then value
// heads.
__global__ void __launch_bounds__(kWarps * 32) qkv_kernel(const __grid_constant__ QkvKernelArgs a) {
  extern __shared__ float memory[];
  pdl_launch();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto* turns = reinterpret_cast<float2*>(memory);
  float* x = memory + a.rope.rot + warp * a.head_dim;
  pdl_wait();
  const int64_t row = blockIdx.y;
  const int position = a.positions[row];
  const int seq = a.row_seq[row];
  const int64_t page = a.kv.table[static_cast<int64_t>(seq) * a.kv.table_stride + position / a.kv.block];
  if (a.rope.inv_freq != nullptr) {
    for (int i = threadIdx.x; i < a.rope.rot / 2; i += kWarps * 32) {
      turns[i] = turn(a.rope, i, position, a.kv_len[seq]);
    }
  }
  __syncthreads();
  for (int head = static_cast<int>(blockIdx.x) * kWarps + warp; head < a.heads + 2 * a.kv_heads;
       head += static_cast<int>(gridDim.x) * kWarps) {
    const int64_t from = row * a.qkv.stride + static_cast<int64_t>(head) * a.head_dim;
    float sum = 0;
    if (a.pairs) {
      for (int i = lane * 2; i < a.head_dim; i += 64) {
        const uint32_t raw =
            *reinterpret_cast<const uint32_t*>(static_cast<const __nv_bfloat16*>(a.qkv.data) + from + i);
        x[i] = bf16_lo(raw);
        x[i + 1] = bf16_hi(raw);
        sum += x[i] * x[i] + x[i + 1] * x[i + 1];
      }
    } else {
      for (int i = lane; i < a.head_dim; i += 32) {
        x[i] = load1(a.qkv.data, a.qkv.dtype, from + i);
        sum += x[i] * x[i];
      }
    }
    __syncwarp();
    if (head < a.heads + a.kv_heads) {
      norm_and_rotate(x, sum, lane, a.head_dim, head < a.heads ? a.q_norm : a.k_norm, a.rope,
                      [turns](int i) { return turns[i]; });
    }
    __syncwarp();
    store_head(a, row, head, lane, position, page, x);
    __syncwarp();
  }
}

// The usual shapes, bf16, whole heads rotated half against half: a thread takes eight dimensions and the eight that
// they turn with, kLanes threads a head, and a block all heads of a row.
template <int kLanes>
__global__ void __launch_bounds__(kWideThreads) qkv_wide_kernel(const __grid_constant__ QkvKernelArgs a) {
  constexpr int kHalf = kLanes * 8, kDim = 2 * kHalf;
  __shared__ float2 turns[kHalf];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int position = a.positions[row], seq = a.row_seq[row];
  const int64_t page = a.kv.table[static_cast<int64_t>(seq) * a.kv.table_stride + position / a.kv.block];
  const int64_t slot = position % a.kv.block;
  for (int i = static_cast<int>(threadIdx.x); i < kHalf; i += kWideThreads) {
    turns[i] = turn(a.rope, i, position, a.kv_len[seq]);
  }
  __syncthreads();
  const int within = static_cast<int>(threadIdx.x) % kLanes * 8;
  for (int head0 = 0; head0 < a.heads + 2 * a.kv_heads; head0 += kWideThreads / kLanes) {
    const int head = head0 + static_cast<int>(threadIdx.x) / kLanes;
    if (head >= a.heads + 2 * a.kv_heads) return;
    const int64_t from = row * a.qkv.stride + static_cast<int64_t>(head) * kDim + within;
    float lo[8], hi[8];
    load8(a.qkv.data, DType::kBF16, from, lo);
    load8(a.qkv.data, DType::kBF16, from + kHalf, hi);
    if (head < a.heads + a.kv_heads) {
      const NormArgs& norm = head < a.heads ? a.q_norm : a.k_norm;
      if (norm.weight != nullptr) norm_head<kLanes>(norm, within, lo, hi);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float2 by = turns[within + i];
        const float x0 = lo[i], x1 = hi[i];
        lo[i] = x0 * by.x - x1 * by.y;
        hi[i] = x1 * by.x + x0 * by.y;
      }
    }
    void* to = a.q.data;
    int64_t at = row * a.q.stride + static_cast<int64_t>(head) * kDim;
    if (head >= a.heads) {
      if (page < 0) return;  // slid out of the window already: never read; no thread of the row has a query left
      const bool is_value = head >= a.heads + a.kv_heads;
      to = is_value ? a.kv.v : a.kv.k;
      at = is_value ? page * a.kv.v_page + slot * a.kv.v_token + (head - a.heads - a.kv_heads) * a.kv.v_head
                    : page * a.kv.k_page + slot * a.kv.k_token + (head - a.heads) * a.kv.k_head;
    }
    store8(to, DType::kBF16, at + within, lo);
    store8(to, DType::kBF16, at + within + kHalf, hi);
  }
}

// Whether rows and heads begin at multiples of `elems` bf16.
bool reads_bf16(const Tensor& t, int64_t elems) {
  bool fits = t.dtype == DType::kBF16 && reinterpret_cast<uintptr_t>(t.data) % static_cast<uintptr_t>(2 * elems) == 0;
  for (int i = 0; i + 1 < t.shape.rank(); ++i) fits = fits && t.strides[static_cast<size_t>(i)] % elems == 0;
  return fits;
}

}  // namespace

void qk_norm_rope_store(cudaStream_t stream, const QkvArgs& args, const StepInput& input, const Tensor& qkv,
                        const KvView& kv, const Tensor& q) {
  const AttnShape& s = args.shape;
  if (s.head_dim > kMaxHeadDim) unsupported("the CUDA backend has no attention for heads of more than 512 dimensions");
  QkvKernelArgs a{mat(qkv), mat(q), paged(kv, input), {}, {}, {}, nullptr, nullptr, nullptr, 0, 0, 0, false};
  a.rope = rope_args(args.rope);
  a.q_norm = norm_args(args.q_norm);
  a.k_norm = norm_args(args.k_norm);
  a.positions = static_cast<const int*>(input.positions.data);
  a.row_seq = static_cast<const int*>(input.row_seq.data);
  a.kv_len = static_cast<const int*>(input.kv_len.data);
  a.heads = static_cast<int>(s.heads);
  a.kv_heads = static_cast<int>(s.kv_heads);
  a.head_dim = static_cast<int>(s.head_dim);
  const auto all = [&](int64_t elems) {
    return s.head_dim % elems == 0 && reads_bf16(qkv, elems) && reads_bf16(q, elems) && reads_bf16(kv.k, elems) &&
           reads_bf16(kv.v, elems);
  };
  a.pairs = all(2);
  const auto rows = static_cast<unsigned>(qkv.shape[0]);
  if (args.rope.present() && !args.rope.interleaved && a.rope.rot == s.head_dim && all(8)) {
    auto* kernel = s.head_dim == 64    ? qkv_wide_kernel<4>
                   : s.head_dim == 128 ? qkv_wide_kernel<8>
                   : s.head_dim == 256 ? qkv_wide_kernel<16>
                                       : nullptr;
    if (kernel != nullptr) {
      return launch("store keys and values", kernel, dim3(rows), dim3(kWideThreads), 0, stream, a);
    }
  }
  const unsigned groups = static_cast<unsigned>(s.heads + 2 * s.kv_heads + kWarps - 1) / kWarps;
  // Many rows fill the device alone; a block that takes all heads of its row computes the angles once.
  const unsigned blocks = rows >= kManyRows ? std::min(groups, 2u) : groups;
  launch("store keys and values", qkv_kernel, dim3(blocks, rows), dim3(kWarps * 32),
         static_cast<size_t>(kWarps * s.head_dim + a.rope.rot) * sizeof(float), stream, a);
}

}  // namespace baize::cuda
