// Sampling as ops/sample.h defines it, a block a row. Nothing is sorted: the tokens that a filter keeps are always the
// first ones by (logit, id), so each filter is a bound, found bit by bit by counting (top-k) or weighing (top-p) what
// lies above. Weights are sums of integers, so that no result depends on the order of additions; against the
// definition's doubles a draw can differ only where the uniform number meets a boundary to ten digits.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

using u64 = unsigned long long;

// A pair of logit and id as one number whose order is: higher logit, then lower id. NaN is above everything.
__device__ __forceinline__ unsigned long long order_key(float v, int id) {
  const uint32_t bits = __float_as_uint(v == 0.0f ? 0.0f : v);
  uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  if (v != v) key = 0xffffffffu;
  return static_cast<unsigned long long>(key) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

constexpr int kArgmaxThreads = 512;

__global__ void __launch_bounds__(kArgmaxThreads) argmax_kernel(Mat logits, unsigned long long* keys) {
  __shared__ unsigned long long best_of[kArgmaxThreads / 32];
  pdl_launch();
  pdl_wait();
  const float* row = static_cast<const float*>(logits.data) + blockIdx.y * logits.stride;
  unsigned long long best = 0;
  for (int i = blockIdx.x * kArgmaxThreads + threadIdx.x; i < logits.cols; i += gridDim.x * kArgmaxThreads) {
    best = max(best, order_key(row[i], i));
  }
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) best = max(best, __shfl_xor_sync(~0u, best, o));
  if (threadIdx.x % 32 == 0) best_of[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
#pragma unroll
  for (int i = 1; i < kArgmaxThreads / 32; ++i) best = max(best, best_of[i]);
  atomicMax(&keys[blockIdx.y], best);
}

__host__ __device__ __forceinline__ int token_of(u64 key) {
  const auto logit = static_cast<uint32_t>(key >> 32);
  if (logit == 0xffffffffu || logit <= 0x007fffffu) return -1;  // a NaN, or nothing above -infinity
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(key));
}

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kGathered = 8192;     // tokens that fit in shared memory
constexpr float kUnit = 0x1p44f;    // of weights as integers: 2^18 tokens of weight 1 fit in 64 bits
constexpr float kLowestLevel = 16;  // temperatures below the highest logit: bounds from 1 on are tried, doubling

// Ascending as the logits are; 0.0f makes -0 a 0.
__device__ __forceinline__ uint32_t key_of(float logit) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float logit_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Tokens to look at: a row of logits, or some of it in shared memory, in the order of their ids.
struct Items {
  const float* logits;
  const int* ids;  // null: 0, 1, ...
  int count;

  __device__ int id(int i) const { return ids != nullptr ? ids[i] : i; }
};

// Which of them are kept: those above a key, and of those that equal it the ones up to an id.
struct Kept {
  uint32_t key = 0;
  int last_id = 0x7fffffff;
  float min_weight = 0;
};

struct Block {
  u64 sums[kWarps];
  int counts[kWarps];
};

__device__ __forceinline__ u64 warp_total(u64 v) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(~0u, v, o);
  return v;
}
// Every thread gets the sum.
__device__ u64 block_total(Block& block, u64 v) {
  v = warp_total(v);
  __syncthreads();
  if (threadIdx.x % 32 == 0) block.sums[threadIdx.x / 32] = v;
  __syncthreads();
  return warp_total(block.sums[threadIdx.x % 32]);
}

template <typename Value>
__device__ u64 total(Block& block, const Items& items, const Value& value) {
  u64 sum = 0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < items.count; i += kThreads)
    sum += value(items.logits[i], items.id(i));
  return block_total(block, sum);
}

// The first item up to which the values add up to more than `target`, which is less than the sum of all.
template <typename Value>
__device__ int find(Block& block, const Items& items, const Value& value, u64 target) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  int begin = 0, count = items.count;
  while (count > 32) {
    const int part = (count + kWarps - 1) / kWarps;
    u64 sum = 0;
    const int end = min((warp + 1) * part, count);
    for (int i = warp * part + lane; i < end; i += 32) sum += value(items.logits[begin + i], items.id(begin + i));
    sum = warp_total(sum);
    __syncthreads();
    if (lane == 0) block.sums[warp] = sum;
    __syncthreads();
    int w = 0;
    for (; w + 1 < kWarps && (w + 1) * part < count && block.sums[w] <= target; ++w) target -= block.sums[w];
    begin += w * part;
    count = min(part, count - w * part);
  }
  u64 upto = lane < count ? value(items.logits[begin + lane], items.id(begin + lane)) : 0;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const u64 below = __shfl_up_sync(~0u, upto, o);
    if (lane >= o) upto += below;
  }
  const unsigned reached = __ballot_sync(~0u, lane < count && upto > target);
  return begin + (reached != 0 ? __ffs(static_cast<int>(reached)) - 1 : count - 1);
}

struct Row {
  const float* logits;
  int vocab;
  float highest;
  SampleDraw draw;

  __device__ float weight(float logit) const { return expf((logit - highest) / draw.temperature); }
  __device__ u64 units(float logit) const { return __float2ull_rz(weight(logit) * kUnit); }
};

__device__ __forceinline__ bool is_kept(const Kept& kept, float logit, int id) {
  const uint32_t key = key_of(logit);
  return key > kept.key || (key == kept.key && id <= kept.last_id);
}

// Keeps the fewest first tokens whose values add up to `need` or more; all when they never do. Value: of a logit, 0 for
// none; equal for equal logits.
template <typename Value>
__device__ Kept cut(Block& block, const Items& items, const Kept& kept, const Value& value, u64 need) {
  const auto from = [&](uint32_t least) {
    return total(block, items,
                 [&](float x, int id) { return key_of(x) >= least && is_kept(kept, x, id) ? value(x) : u64{0}; });
  };
  uint32_t key = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    if (from(key | bit) >= need) key |= bit;
  }
  if (key == 0) return kept;
  Kept next = kept;
  next.key = key;
  if (key != kept.key) next.last_id = 0x7fffffff;
  const u64 above = key == 0xffffffffu ? 0 : from(key + 1), each = value(logit_of(key));
  const u64 ties = each == 0 ? ~u64{0} : (need - above + each - 1) / each;
  const auto tie = [&](float x, int id) { return u64{key_of(x) == key && is_kept(kept, x, id)}; };
  if (ties < total(block, items, tie)) next.last_id = items.id(find(block, items, tie, ties - 1));
  return next;
}

// The items at or above the first level that has `tokens` of them, or weighs `units`: in shared memory when they fit,
// else all of the row.
__device__ Items gather(Block& block, const Row& row, u64 tokens, u64 units, float* logits_to, int* ids_to) {
  const Items all{row.logits, nullptr, row.vocab};
  float bar = 0;
  int count = -1;
  for (float level = 1; level <= kLowestLevel && count < 0; level *= 2) {
    bar = row.highest - level * row.draw.temperature;
    const u64 found = total(block, all, [&](float x, int) { return u64{x >= bar}; });
    if (found > kGathered) return all;
    const bool enough = tokens > 0
                            ? found >= tokens
                            : total(block, all, [&](float x, int) { return x >= bar ? row.units(x) : 0; }) >= units;
    if (enough) count = static_cast<int>(found);
  }
  if (count < 0) return all;
  // Each warp puts those of its part of the row behind those of the warps before it.
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int part = (row.vocab + kWarps - 1) / kWarps;
  const int begin = warp * part, end = min(begin + part, row.vocab);
  int mine = 0;
  for (int i = begin + lane; i < end; i += 32) mine += row.logits[i] >= bar;
  mine = static_cast<int>(warp_total(static_cast<u64>(mine)));
  __syncthreads();
  if (lane == 0) block.counts[warp] = mine;
  __syncthreads();
  int at = 0;
  for (int w = 0; w < warp; ++w) at += block.counts[w];
  for (int i0 = begin; i0 < end; i0 += 32) {
    const int i = i0 + lane;
    const bool take = i < end && row.logits[i] >= bar;
    const unsigned taken = __ballot_sync(~0u, take);
    if (take) {
      const int to = at + __popc(taken & ((1u << lane) - 1));
      logits_to[to] = row.logits[i];
      ids_to[to] = i;
    }
    at += __popc(taken);
  }
  __syncthreads();
  return {logits_to, ids_to, count};
}

__global__ void __launch_bounds__(kThreads)
    sample_kernel(Mat logits, const u64* keys, const SampleDraw* draws, int* out) {
  extern __shared__ float gathered[];
  __shared__ Block block;
  pdl_launch();
  pdl_wait();
  const int64_t at = blockIdx.x;
  const SampleDraw draw = draws[at];
  const int top = token_of(keys[at]);
  const float* values = static_cast<const float*>(logits.data) + at * logits.stride;
  if (top < 0 || draw.temperature <= 0 || draw.top_k == 1 || isinf(values[top])) {
    if (threadIdx.x == 0) out[at] = top;
    return;
  }
  const Row row{values, logits.cols, values[top], draw};
  Items items{row.logits, nullptr, row.vocab};
  Kept kept;
  const bool cuts_k = draw.top_k > 0 && draw.top_k < row.vocab, cuts_p = draw.top_p < 1;
  const auto units = [&](float x) { return row.units(x); };
  const auto kept_units = [&](float x, int id) {
    return is_kept(kept, x, id) && row.weight(x) >= kept.min_weight ? row.units(x) : u64{0};
  };
  const auto mass = [&](u64 of) {
    return max(u64{1}, static_cast<u64>(ceil(static_cast<double>(draw.top_p) * static_cast<double>(of))));
  };
  u64 need = 0;
  if (cuts_p && !cuts_k) need = mass(total(block, items, kept_units));
  if (cuts_k || cuts_p) {
    items = gather(block, row, cuts_k ? static_cast<u64>(draw.top_k) : 0, need, gathered,
                   reinterpret_cast<int*>(gathered + kGathered));
  }
  if (cuts_k) kept = cut(block, items, kept, [](float) { return u64{1}; }, static_cast<u64>(draw.top_k));
  if (cuts_p) {
    if (cuts_k) need = mass(total(block, items, kept_units));
    kept = cut(block, items, kept, units, need);
  }
  kept.min_weight = draw.min_p;
  const u64 weight = total(block, items, kept_units);
  const int chosen = items.id(find(block, items, kept_units, __umul64hi(draw.uniform, weight)));
  if (threadIdx.x == 0) out[at] = chosen;
}

}  // namespace

int32_t argmax_token(uint64_t key) { return token_of(key); }

void argmax(cudaStream_t stream, const Tensor& logits, uint64_t* keys) {
  const Mat in = mat(logits);
  check(cudaMemsetAsync(keys, 0, sizeof(uint64_t) * static_cast<size_t>(in.rows), stream), "clear the choices");
  const int per_row = std::clamp(in.cols / (4 * kArgmaxThreads), 1, std::max(1, 264 / in.rows));
  launch("choose tokens", argmax_kernel, dim3(static_cast<unsigned>(per_row), static_cast<unsigned>(in.rows)),
         dim3(kArgmaxThreads), 0, stream, in, reinterpret_cast<unsigned long long*>(keys));
}

void sample(cudaStream_t stream, const Tensor& logits, const uint64_t* keys, const SampleDraw* draws, int32_t* out) {
  constexpr int kBytes = kGathered * 8;
  static const cudaError_t raised =
      cudaFuncSetAttribute(sample_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  check(raised, "reserve shared memory");
  const Mat in = mat(logits);
  launch("draw tokens", sample_kernel, dim3(static_cast<unsigned>(in.rows)), dim3(kThreads), kBytes, stream, in,
         reinterpret_cast<const u64*>(keys), draws, out);
}

}  // namespace baize::cuda
