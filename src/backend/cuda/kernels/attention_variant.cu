// Attention of every variant (sinks, slopes, stretches, chosen positions, biases, other value dimensions, heads that
// lie apart) in f32 arithmetic: a block takes up to four query heads that share a key head, its warps every n-th key
// with a softmax of their own, merged at the end. Few rows are cut in parts of their keys, which a second kernel
// merges. Not tuned: keys are read once a block, without matrix units. Definition: ops/host_attention.cc.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kMostGroup = 4;   // query heads of a block
constexpr int kLeastKeys = 64;  // of a part
constexpr int kBlocksOfSm = 2;

struct AttendArgs {
  const void* q;
  void* out;
  DType q_type, out_type;
  int64_t q_row, q_head, out_row, out_head;
  Paged kv;
  const int* positions;
  const int* row_seq;
  const float* sinks;
  const float* slopes;
  const int* selected;
  int64_t selected_row;
  const float* bias;
  int64_t bias_row, bias_head;
  float scale, softcap;
  int64_t window;
  bool chunked;
  int kv_heads, group, head_dim, v_dim, count;  // group = heads / kv_heads, count: of chosen positions
  int splits;                                   // parts of the keys
  float* partials;  // [rows, heads, splits, v_dim + 2]: weighted sum of values, highest score, sum of weights
};

/// What a row sees: keys [first, first + count) or, with `chosen`, those that it lists (-1: none).
struct Seen {
  const int* chosen;
  int first, count, position;
};

__device__ __forceinline__ Seen seen_by(const AttendArgs& a, int64_t row) {
  const int position = a.positions[row];
  if (a.selected != nullptr) return {a.selected + row * a.selected_row, 0, a.count, position};
  int64_t first = 0;
  if (a.window > 0) first = a.chunked ? position / a.window * a.window : position - a.window + 1;
  if (first < 0) first = 0;
  return {nullptr, static_cast<int>(first), static_cast<int>(position + 1 - first), position};
}

__device__ __forceinline__ float* part_of(const AttendArgs& a, int64_t row, int head, int part) {
  const int64_t heads = static_cast<int64_t>(a.kv_heads) * a.group;
  return a.partials + ((row * heads + head) * a.splits + part) * (a.v_dim + 2);
}

// kChunks: of 32 values; kGroup: query heads of a block.
template <typename T, int kChunks, int kGroup>
__global__ void __launch_bounds__(kWarps * 32, 1) attention_variant_kernel(const __grid_constant__ AttendArgs a) {
  extern __shared__ float memory[];
  __shared__ float tops[kWarps][kGroup], totals[kWarps][kGroup];
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row = blockIdx.x;
  const int parts = (a.group + kGroup - 1) / kGroup;
  const int kv_head = static_cast<int>(blockIdx.y) / parts, part = static_cast<int>(blockIdx.y) % parts;
  const int head0 = kv_head * a.group + part * kGroup;
  const int heads = min(kGroup, a.group - part * kGroup);
  float* q = memory;                             // [kGroup][head_dim]
  float* merged = memory + kGroup * a.head_dim;  // [kWarps][v_dim]
  for (int i = threadIdx.x; i < kGroup * a.head_dim; i += kWarps * 32) {
    const int g = i / a.head_dim, d = i % a.head_dim;
    q[i] = g < heads ? load1(a.q, a.q_type, row * a.q_row + (head0 + g) * a.q_head + d) : 0.0f;
  }
  __syncthreads();
  const Seen seen = seen_by(a, row);
  const int* table = a.kv.table + static_cast<int64_t>(a.row_seq[row]) * a.kv.table_stride;
  const float* bias = a.bias != nullptr ? a.bias + row * a.bias_row + kv_head * a.bias_head : nullptr;
  float acc[kGroup][kChunks] = {};
  float top[kGroup], total[kGroup] = {};
#pragma unroll
  for (int g = 0; g < kGroup; ++g) top[g] = -INFINITY;
  const int share = (seen.count + a.splits - 1) / a.splits;
  const int end = min(seen.count, (static_cast<int>(blockIdx.z) + 1) * share);
  for (int i = static_cast<int>(blockIdx.z) * share + warp; i < end; i += kWarps) {
    const int t = seen.chosen != nullptr ? seen.chosen[i] : seen.first + i;
    if (t < 0) continue;
    const int64_t page = table[t / a.kv.block];
    const int64_t slot = t % a.kv.block;
    const T* k = static_cast<const T*>(a.kv.k) + page * a.kv.k_page + slot * a.kv.k_token + kv_head * a.kv.k_head;
    const T* v = static_cast<const T*>(a.kv.v) + page * a.kv.v_page + slot * a.kv.v_token + kv_head * a.kv.v_head;
    float value[kChunks];
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int d = c * 32 + lane;
      value[c] = d < a.v_dim ? static_cast<float>(v[d]) : 0.0f;
    }
    float score[kGroup] = {};
    for (int d = lane; d < a.head_dim; d += 32) {
      const float key = static_cast<float>(k[d]);
#pragma unroll
      for (int g = 0; g < kGroup; ++g) score[g] += q[g * a.head_dim + d] * key;
    }
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      float s = a.scale * warp_sum(score[g]);
      if (a.softcap > 0) s = a.softcap * tanhf(s / a.softcap);
      if (a.slopes != nullptr && g < heads) s -= a.slopes[head0 + g] * static_cast<float>(seen.position - t);
      if (bias != nullptr) s += bias[t];
      if (s == -INFINITY) continue;  // hidden
      const float next = fmaxf(top[g], s);
      const float keep = expf(top[g] - next), weight = expf(s - next);
      top[g] = next;
      total[g] = total[g] * keep + weight;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) acc[g][c] = acc[g][c] * keep + weight * value[c];
    }
  }
  if (lane == 0) {
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
      tops[warp][g] = top[g];
      totals[warp][g] = total[g];
    }
  }
  // One head after another goes through the same memory.
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    __syncthreads();  // tops are there; the head before is merged
    if (g >= heads) break;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int d = c * 32 + lane;
      if (d < a.v_dim) merged[warp * a.v_dim + d] = acc[g][c];
    }
    __syncthreads();
    const bool whole = a.splits == 1;
    const float sink = whole && a.sinks != nullptr ? a.sinks[head0 + g] : -INFINITY;
    float highest = sink;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, tops[w][g]);
    const bool sees = highest > -INFINITY;
    float sum = sees ? expf(sink - highest) : 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += sees ? totals[w][g] * expf(tops[w][g] - highest) : 0.0f;
    for (int d = threadIdx.x; d < a.v_dim; d += kWarps * 32) {
      float y = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) y += sees ? merged[w * a.v_dim + d] * expf(tops[w][g] - highest) : 0.0f;
      if (whole) {
        store1(a.out, a.out_type, row * a.out_row + (head0 + g) * a.out_head + d, sees ? y / sum : 0.0f);
      } else {
        float* to = part_of(a, row, head0 + g, static_cast<int>(blockIdx.z));
        to[d] = y;
        if (d == 0) {
          to[a.v_dim] = highest;
          to[a.v_dim + 1] = sum;
        }
      }
    }
  }
}

// One block a row and head.
__global__ void __launch_bounds__(128) merge_kernel(const __grid_constant__ AttendArgs a) {
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y);
  const float sink = a.sinks != nullptr ? a.sinks[head] : -INFINITY;
  float highest = sink;
  for (int p = 0; p < a.splits; ++p) highest = fmaxf(highest, part_of(a, row, head, p)[a.v_dim]);
  const bool sees = highest > -INFINITY;
  float total = sees ? expf(sink - highest) : 1.0f;
  for (int p = 0; sees && p < a.splits; ++p) {
    const float* from = part_of(a, row, head, p);
    total += from[a.v_dim + 1] * expf(from[a.v_dim] - highest);
  }
  for (int d = threadIdx.x; d < a.v_dim; d += 128) {
    float y = 0;
    for (int p = 0; sees && p < a.splits; ++p) {
      const float* from = part_of(a, row, head, p);
      y += from[d] * expf(from[a.v_dim] - highest);
    }
    store1(a.out, a.out_type, row * a.out_row + head * a.out_head + d, y / total);
  }
}

template <typename T, int kChunks, int kGroup>
void attend(cudaStream_t stream, const AttendArgs& a, int64_t rows) {
  const size_t bytes = static_cast<size_t>(kGroup * a.head_dim + kWarps * a.v_dim) * sizeof(float);
  if (bytes > (size_t{200} << 10)) unsupported("the CUDA backend has no attention for heads of so many dimensions");
  const auto kernel = attention_variant_kernel<T, kChunks, kGroup>;
  if (bytes > (size_t{40} << 10)) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "prepare attention");
  }
  const int parts = (a.group + kGroup - 1) / kGroup;
  launch("attend", kernel,
         dim3(static_cast<unsigned>(rows), static_cast<unsigned>(a.kv_heads * parts), static_cast<unsigned>(a.splits)),
         dim3(kWarps * 32), bytes, stream, a);
  if (a.splits == 1) return;
  launch("merge attention", merge_kernel,
         dim3(static_cast<unsigned>(rows), static_cast<unsigned>(a.kv_heads * a.group)), dim3(128), 0, stream, a);
}

template <typename T>
void attend_values(cudaStream_t stream, const AttendArgs& a, int64_t rows) {
  if (a.v_dim <= 128) {
    a.group == 1 ? attend<T, 4, 1>(stream, a, rows) : attend<T, 4, kMostGroup>(stream, a, rows);
  } else if (a.v_dim <= 512) {
    attend<T, 16, kMostGroup>(stream, a, rows);
  } else if (a.v_dim <= 1024) {
    attend<T, 32, 1>(stream, a, rows);
  } else {
    unsupported("the CUDA backend has no attention for values of more than 1,024 dimensions");
  }
}

const float* floats_of(const Tensor& t) { return t.present() ? static_cast<const float*>(t.data) : nullptr; }

}  // namespace

VariantPlan plan_variant_attention(const AttnArgs& args, const StepInput& input, const KvView& kv, int sms) {
  const AttnShape& s = args.shape;
  const int64_t group = s.heads / s.kv_heads, v_dim = kv.v.shape[3];
  const int64_t blocks = std::max<int64_t>(1, input.rows * s.kv_heads * ((group + kMostGroup - 1) / kMostGroup));
  int64_t keys = args.window > 0 ? std::min(args.window, input.max_kv_len) : input.max_kv_len;
  if (args.selected.present()) keys = std::min(keys, args.selected.shape[1]);
  const int64_t most = kBlocksOfSm * static_cast<int64_t>(sms);
  VariantPlan plan;
  plan.splits = static_cast<int>(std::clamp<int64_t>(most / blocks, 1, std::max<int64_t>(1, keys / kLeastKeys)));
  // The same for every number of rows: at most `most` blocks have parts, of at most kMostGroup heads each.
  plan.partial_floats = most * kMostGroup * (v_dim + 2);
  return plan;
}

void attention_variant(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                       const KvView& kv, const Tensor& out, int splits, float* partials) {
  if (q.shape[0] == 0) return;
  const AttnShape& s = args.shape;
  const AttendArgs a{q.data,
                     out.data,
                     q.dtype,
                     out.dtype,
                     q.strides[0],
                     q.strides[1],
                     out.strides[0],
                     out.strides[1],
                     paged(kv, input),
                     static_cast<const int*>(input.positions.data),
                     static_cast<const int*>(input.row_seq.data),
                     floats_of(args.sinks),
                     floats_of(args.slopes),
                     args.selected.present() ? static_cast<const int*>(args.selected.data) : nullptr,
                     args.selected.present() ? args.selected.strides[0] : 0,
                     floats_of(args.bias),
                     args.bias.present() ? args.bias.strides[0] : 0,
                     args.bias.present() ? args.bias.strides[1] : 0,
                     args.scale,
                     args.softcap,
                     args.window,
                     args.chunked,
                     static_cast<int>(s.kv_heads),
                     static_cast<int>(s.heads / s.kv_heads),
                     static_cast<int>(s.head_dim),
                     static_cast<int>(kv.v.shape[3]),
                     args.selected.present() ? static_cast<int>(args.selected.shape[1]) : 0,
                     splits,
                     partials};
  if (kv.k.dtype == DType::kF32) {
    attend_values<float>(stream, a, q.shape[0]);
  } else if (kv.k.dtype == DType::kBF16) {
    attend_values<__nv_bfloat16>(stream, a, q.shape[0]);
  } else {
    unsupported("the CUDA backend keeps keys and values in f32 or bf16");
  }
}

}  // namespace baize::cuda
