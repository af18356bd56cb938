// Attention for few rows a sequence (decode), and for f32: every row on its own, its keys cut into parts that run side
// by side (flash decoding, Dao et al. 2023); the block that finishes a row last merges the parts. Query heads of one
// key head share its loads. A group of lanes reads one key with 16 bytes a lane; each group keeps its own running
// softmax.
#include <algorithm>
#include <cfloat>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"

namespace baize::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kMinKeys = 64;  // of a part
constexpr float kLog2E = 1.4426950408889634f;

struct RowsArgs {
  Mat q, out;
  Paged kv;
  const int* positions;
  const int* row_seq;
  float scale, softcap;
  int window;
  int heads, kv_heads, head_dim, group;  // group = heads / kv_heads
  int splits;
  float* partials;  // [rows, heads, splits, head_dim + 2]
  int* counters;    // [rows, kv_heads * chunks of the group]
  bool wide;
};

// E elements of T at p as f32; only those below `limit` when not `is_wide`.
template <typename T, int E>
__device__ __forceinline__ void load_head(const T* p, int limit, bool is_wide, float (&v)[E]) {
  if (is_wide) {
    const uint4 raw = *reinterpret_cast<const uint4*>(p);
    if constexpr (sizeof(T) == 4) {
      v[0] = __uint_as_float(raw.x), v[1] = __uint_as_float(raw.y);
      v[2] = __uint_as_float(raw.z), v[3] = __uint_as_float(raw.w);
    } else {
      unpack_bf16(raw, v);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < E; ++i) v[i] = i < limit ? static_cast<float>(p[i]) : 0.0f;
}

template <typename T, int kDim, int kGroup>
struct Layout {
  static constexpr int kElems = 16 / static_cast<int>(sizeof(T));
  static constexpr int kLanes = kDim / kElems < 32 ? kDim / kElems : 32;  // that read one key
  static constexpr int kChunks = kDim / (kElems * kLanes);
  static constexpr int kKeys = 32 / kLanes;  // a warp reads at once
  static constexpr int kUnroll = kGroup * kChunks >= 8 ? 2 : 4;
};

// Merges the running softmax (m1, l1, acc1) into (m0, l0, acc0).
__device__ __forceinline__ float merge_scale(float m, float top) {
  return m == -FLT_MAX ? 0.0f : exp2f((m - top) * kLog2E);
}

template <typename T, int kDim, int kGroup>
__global__ void __launch_bounds__(kWarps * 32) attention_rows_kernel(const __grid_constant__ RowsArgs a) {
  using L = Layout<T, kDim, kGroup>;
  constexpr int E = L::kElems, C = L::kChunks, U = L::kUnroll;
  __shared__ float shared_acc[kWarps][kGroup][kDim];
  __shared__ float shared_m[kWarps][kGroup], shared_l[kWarps][kGroup];
  __shared__ bool last;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int group_chunks = (a.group + kGroup - 1) / kGroup;
  const int kv_head = blockIdx.y / group_chunks;
  const int head0 = kv_head * a.group + blockIdx.y % group_chunks * kGroup;
  const int heads = min(kGroup, (kv_head + 1) * a.group - head0);
  const int position = a.positions[row];
  const int* table = a.kv.table + static_cast<int64_t>(a.row_seq[row]) * a.kv.table_stride;
  const int first = a.window > 0 ? max(0, position - a.window + 1) : 0;
  const int keys = position + 1 - first;
  const int part_keys = max(kMinKeys, (keys + a.splits - 1) / a.splits);
  const int parts = (keys + part_keys - 1) / part_keys;
  const int part = blockIdx.z;
  if (part >= parts) return;
  const int begin = first + part * part_keys, end = min(begin + part_keys, position + 1);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int within = lane % L::kLanes, key_of_warp = lane / L::kLanes;
  float q[kGroup][C][E], acc[kGroup][C][E], m[kGroup], l[kGroup];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    m[g] = -FLT_MAX;
    l[g] = 0;
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const int d = (c * L::kLanes + within) * E;
#pragma unroll
      for (int e = 0; e < E; ++e) {
        acc[g][c][e] = 0;
        q[g][c][e] = 0;
      }
      if (g < heads && d < a.head_dim) {
        const T* p = static_cast<const T*>(a.q.data) + row * a.q.stride + (head0 + g) * a.head_dim + d;
        load_head<T, E>(p, a.head_dim - d, a.wide, q[g][c]);
#pragma unroll
        for (int e = 0; e < E; ++e) q[g][c][e] *= a.scale;
      }
    }
  }

  constexpr int kStep = kWarps * L::kKeys;  // keys of the block at once
  for (int t0 = begin + warp * L::kKeys + key_of_warp; t0 - key_of_warp < end; t0 += kStep * U) {
    float k[U][C][E], v[U][C][E];
    bool seen[U];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int t = t0 + u * kStep;
      seen[u] = t < end;
      const int64_t page = seen[u] ? table[t / a.kv.block] : 0;
      const int64_t slot = t % a.kv.block;
#pragma unroll
      for (int c = 0; c < C; ++c) {
        const int d = (c * L::kLanes + within) * E;
        if (seen[u] && d < a.head_dim) {
          load_head<T, E>(
              static_cast<const T*>(a.kv.k) + page * a.kv.k_page + slot * a.kv.k_token + kv_head * a.kv.k_head + d,
              a.head_dim - d, a.wide, k[u][c]);
          load_head<T, E>(
              static_cast<const T*>(a.kv.v) + page * a.kv.v_page + slot * a.kv.v_token + kv_head * a.kv.v_head + d,
              a.head_dim - d, a.wide, v[u][c]);
        } else {
#pragma unroll
          for (int e = 0; e < E; ++e) k[u][c][e] = v[u][c][e] = 0;
        }
      }
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      if (g >= heads) break;
      float s[U];
      float top = m[g];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        s[u] = 0;
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
          for (int e = 0; e < E; ++e) s[u] += q[g][c][e] * k[u][c][e];
        }
#pragma unroll
        for (int o = L::kLanes / 2; o > 0; o >>= 1) s[u] += __shfl_xor_sync(~0u, s[u], o);
        if (a.softcap > 0) s[u] = a.softcap * tanhf(s[u] / a.softcap);
        if (!seen[u]) s[u] = -FLT_MAX;
        top = fmaxf(top, s[u]);
      }
      const float keep = merge_scale(m[g], top);
      m[g] = top;
      l[g] *= keep;
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int e = 0; e < E; ++e) acc[g][c][e] *= keep;
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const float p = merge_scale(s[u], top);
        l[g] += p;
#pragma unroll
        for (int c = 0; c < C; ++c) {
#pragma unroll
          for (int e = 0; e < E; ++e) acc[g][c][e] += p * v[u][c][e];
        }
      }
    }
  }

  // Merge the key groups of the warp, then the warps.
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
#pragma unroll
    for (int o = L::kLanes; o < 32; o <<= 1) {
      const float m1 = __shfl_xor_sync(~0u, m[g], o);
      const float top = fmaxf(m[g], m1);
      const float keep = merge_scale(m[g], top), keep1 = merge_scale(m1, top);
      l[g] = l[g] * keep + __shfl_xor_sync(~0u, l[g], o) * keep1;
      m[g] = top;
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int e = 0; e < E; ++e) acc[g][c][e] = acc[g][c][e] * keep + __shfl_xor_sync(~0u, acc[g][c][e], o) * keep1;
      }
    }
    if (key_of_warp == 0) {
#pragma unroll
      for (int c = 0; c < C; ++c) {
#pragma unroll
        for (int e = 0; e < E; ++e) shared_acc[warp][g][(c * L::kLanes + within) * E + e] = acc[g][c][e];
      }
      if (within == 0) {
        shared_m[warp][g] = m[g];
        shared_l[warp][g] = l[g];
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < heads * a.head_dim; i += kWarps * 32) {
    const int g = i / a.head_dim, d = i % a.head_dim;
    float top = -FLT_MAX, sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared_m[w][g]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float keep = merge_scale(shared_m[w][g], top);
      sum += shared_acc[w][g][d] * keep;
      total += shared_l[w][g] * keep;
    }
    if (parts == 1) {
      store1(a.out.data, a.out.dtype, row * a.out.stride + (head0 + g) * a.head_dim + d, sum / total);
    } else {
      float* to = a.partials + ((row * a.heads + head0 + g) * a.splits + part) * (a.head_dim + 2);
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
  for (int i = threadIdx.x; i < heads * a.head_dim; i += kWarps * 32) {
    const int g = i / a.head_dim, d = i % a.head_dim;
    const float* from = a.partials + (row * a.heads + head0 + g) * a.splits * (a.head_dim + 2);
    float top = -FLT_MAX, sum = 0, total = 0;
    for (int p = 0; p < parts; ++p) {
      const float* x = from + p * (a.head_dim + 2);
      const float mp = __ldcg(x + a.head_dim);
      const float next = fmaxf(top, mp);
      const float keep = merge_scale(top, next), keep1 = merge_scale(mp, next);
      sum = sum * keep + __ldcg(x + d) * keep1;
      total = total * keep + __ldcg(x + a.head_dim + 1) * keep1;
      top = next;
    }
    store1(a.out.data, a.out.dtype, row * a.out.stride + (head0 + g) * a.head_dim + d, sum / total);
  }
}

// How many query heads of a key head a block takes.
int group_step(int64_t group, int64_t head_dim) { return head_dim > 256 ? 1 : group >= 3 ? 4 : group == 2 ? 2 : 1; }

template <typename T, int kDim>
auto pick_group(int step) {
  if constexpr (kDim > 256) {
    return attention_rows_kernel<T, kDim, 1>;
  } else {
    return step == 4   ? attention_rows_kernel<T, kDim, 4>
           : step == 2 ? attention_rows_kernel<T, kDim, 2>
                       : attention_rows_kernel<T, kDim, 1>;
  }
}

}  // namespace

RowsPlan plan_rows_attention(const AttnArgs& args, int64_t rows, int64_t max_kv_len, int sms) {
  const AttnShape& s = args.shape;
  const int64_t step = group_step(s.heads / s.kv_heads, s.head_dim);
  const int64_t blocks = std::max<int64_t>(1, rows * s.kv_heads * ((s.heads / s.kv_heads + step - 1) / step));
  const int64_t keys = args.window > 0 ? std::min(args.window, max_kv_len) : max_kv_len;
  int64_t bucket = kMinKeys;  // so that a growing sequence changes the plan, and a recorded step, rarely
  while (bucket < keys) bucket *= 2;
  RowsPlan plan;
  plan.splits = static_cast<int>(std::clamp<int64_t>((2 * sms + blocks - 1) / blocks, 1, bucket / kMinKeys));
  if (plan.splits > 1) plan.partial_floats = rows * s.heads * plan.splits * (s.head_dim + 2);
  return plan;
}

void attention_rows(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                    const KvView& kv, const Tensor& out, const RowsPlan& plan, float* partials, int* counters) {
  const AttnShape& s = args.shape;
  RowsArgs a{mat(q),
             mat(out),
             paged(kv, input),
             static_cast<const int*>(input.positions.data),
             static_cast<const int*>(input.row_seq.data),
             args.scale,
             args.softcap,
             static_cast<int>(args.window),
             static_cast<int>(s.heads),
             static_cast<int>(s.kv_heads),
             static_cast<int>(s.head_dim),
             static_cast<int>(s.heads / s.kv_heads),
             plan.splits,
             partials,
             counters,
             false};
  const int64_t elems = 16 / dtype_bytes(kv.k.dtype);
  const auto fits = [elems](int64_t stride) { return stride % elems == 0; };
  a.wide = fits(s.head_dim) && fits(a.q.stride) && fits(a.kv.k_page) && fits(a.kv.k_token) && fits(a.kv.k_head) &&
           fits(a.kv.v_page) && fits(a.kv.v_token) && fits(a.kv.v_head) &&
           reinterpret_cast<uintptr_t>(kv.k.data) % 16 == 0 && reinterpret_cast<uintptr_t>(kv.v.data) % 16 == 0 &&
           reinterpret_cast<uintptr_t>(q.data) % 16 == 0;
  if (q.dtype != kv.k.dtype) unsupported("queries and the cache must have one type");
  const int step = group_step(a.group, s.head_dim);
  void (*kernel)(RowsArgs) = nullptr;
  if (kv.k.dtype == DType::kF32) {
    kernel = s.head_dim <= 128   ? pick_group<float, 128>(step)
             : s.head_dim <= 256 ? pick_group<float, 256>(step)
             : s.head_dim <= 512 ? pick_group<float, 512>(step)
                                 : nullptr;
  } else if (kv.k.dtype == DType::kBF16) {
    kernel = s.head_dim <= 64    ? pick_group<__nv_bfloat16, 64>(step)
             : s.head_dim <= 128 ? pick_group<__nv_bfloat16, 128>(step)
             : s.head_dim <= 256 ? pick_group<__nv_bfloat16, 256>(step)
             : s.head_dim <= 512 ? pick_group<__nv_bfloat16, 512>(step)
                                 : nullptr;
  }
  if (kernel == nullptr) unsupported("the CUDA backend has no attention for heads of more than 512 dimensions");
  const dim3 grid(static_cast<unsigned>(q.shape[0]), static_cast<unsigned>(s.kv_heads * ((a.group + step - 1) / step)),
                  static_cast<unsigned>(plan.splits));
  launch("attend", kernel, grid, dim3(kWarps * 32), 0, stream, a);
}

}  // namespace baize::cuda
