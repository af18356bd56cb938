// Attention for few rows a sequence in f32, and for the shapes that attention_heads.cu does not take: every row on its
// own, its keys cut into parts that run side by side. Query heads of one key head share its loads. A group of lanes
// reads one key with 16 bytes a lane; each group keeps its own running softmax.
#include <algorithm>
#include <cfloat>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/attention_rows.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

constexpr int kWarps = kRowsWarps;
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

template <typename T, int kDim, int kGroup>
__global__ void __launch_bounds__(kWarps * 32) attention_rows_kernel(const __grid_constant__ RowsArgs a) {
  using L = Layout<T, kDim, kGroup>;
  constexpr int E = L::kElems, C = L::kChunks, U = L::kUnroll;
  __shared__ float shared_acc[kWarps][kGroup][kDim];
  __shared__ float shared_m[kWarps][kGroup], shared_l[kWarps][kGroup];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int group_chunks = (a.group + kGroup - 1) / kGroup;
  const int kv_head = blockIdx.y / group_chunks;
  const int head0 = kv_head * a.group + blockIdx.y % group_chunks * kGroup;
  const int heads = min(kGroup, (kv_head + 1) * a.group - head0);
  if (!is_mine(a, row)) return;
  const PartOfKeys keys = part_of_keys(a, row);
  if (static_cast<int>(blockIdx.z) >= keys.parts) return;
  const int begin = keys.begin, end = keys.end;
  const int* table = a.kv.table + static_cast<int64_t>(a.row_seq[row]) * a.kv.table_stride;

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
  finish_row(a, row, head0, heads, keys.parts,
             {&shared_m[0][0], &shared_l[0][0], &shared_acc[0][0][0], kGroup, kDim, kGroup * kDim});
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

bool reads_wide(const AttnShape& shape, const Tensor& q, const KvView& kv) {
  const int64_t elems = 16 / dtype_bytes(kv.k.dtype);
  const auto fits = [elems](const Tensor& t) {
    return t.strides[0] % elems == 0 && t.strides[1] % elems == 0 && t.strides[2] % elems == 0 &&
           reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
  };
  return shape.head_dim % elems == 0 && q.strides[0] % elems == 0 && reinterpret_cast<uintptr_t>(q.data) % 16 == 0 &&
         fits(kv.k) && fits(kv.v);
}

}  // namespace

RowsPlan plan_rows_attention(const AttnArgs& args, const StepInput& input, const Tensor& q, const KvView& kv, int sms) {
  const AttnShape& s = args.shape;
  RowsPlan plan;
  plan.heads = heads_attention_supports(s, kv) && reads_wide(s, q, kv);
  const int64_t group = s.heads / s.kv_heads;
  const int64_t step = plan.heads ? kHeadsOfBlock : group_step(group, s.head_dim);
  const int64_t blocks = std::max<int64_t>(1, input.rows * s.kv_heads * ((group + step - 1) / step));
  const int64_t keys = args.window > 0 ? std::min(args.window, input.max_kv_len) : input.max_kv_len;
  int64_t bucket = kMinKeys;  // so that a growing sequence changes the plan, and a recorded step, rarely
  while (bucket < keys) bucket *= 2;
  const int64_t at_once = sms * (plan.heads ? heads_attention_blocks(s.head_dim) : 2);
  plan.splits = static_cast<int>(std::clamp<int64_t>(at_once / blocks, 1, bucket / kMinKeys));
  plan.splits = std::min(plan.splits, kMostKept / kHeadsOfBlock);
  if (plan.splits > 1) plan.partial_floats = input.rows * s.heads * plan.splits * (s.head_dim + 2);
  return plan;
}

void attention_rows(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                    const KvView& kv, const Tensor& out, const RowsPlan& plan, float* partials, int* counters) {
  const AttnShape& s = args.shape;
  const RowsArgs a{mat(q),
                   mat(out),
                   paged(kv, input),
                   static_cast<const int*>(input.positions.data),
                   static_cast<const int*>(input.row_seq.data),
                   static_cast<const int*>(input.q_start.data),
                   plan.most_rows,
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
                   reads_wide(s, q, kv)};
  if (q.dtype != kv.k.dtype) unsupported("queries and the cache must have one type");
  if (plan.heads) return attention_heads(stream, a);
  const int step = group_step(a.group, s.head_dim);
  void (*kernel)(RowsArgs) = nullptr;
  if (kv.k.dtype == DType::kF32) {
    kernel = s.head_dim <= 128   ? pick_group<float, 128>(step)
             : s.head_dim <= 256 ? pick_group<float, 256>(step)
             : s.head_dim <= 512 ? pick_group<float, 512>(step)
                                 : nullptr;
  } else if (kv.k.dtype == DType::kBF16) {
    kernel = s.head_dim <= 128   ? pick_group<__nv_bfloat16, 128>(step)
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
