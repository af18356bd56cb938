// How one block brings the pairs of a step in the order of their experts, and cuts them in items (experts.cu).
#pragma once

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

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

/// In shared memory, an int an expert.
struct ExpertCounts {
  int *counts, *starts, *first_item;
};
__device__ __forceinline__ ExpertCounts expert_counts(const GroupArgs& a, int* shared) {
  return {shared, shared + a.experts, shared + 2 * a.experts};
}

/// Where each expert's pairs and items begin, by the counts; the number of items. One warp.
__device__ __forceinline__ int scan_counts(const GroupArgs& a, const ExpertCounts& of) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int pairs = 0, items = 0;
  for (int e0 = 0; e0 < a.experts; e0 += 32) {
    const int e = e0 + lane;
    const int count = e < a.experts ? of.counts[e] : 0;
    int all_pairs = 0, all_items = 0;
    const int start = warp_scan(count, lane, all_pairs);
    const int item = warp_scan((count + a.rows_of_item - 1) / a.rows_of_item, lane, all_items);
    if (e < a.experts) {
      of.starts[e] = pairs + start;
      of.first_item[e] = items + item;
    }
    pairs += all_pairs;
    items += all_items;
  }
  return items;
}

__device__ __forceinline__ void list_items(const GroupArgs& a, const ExpertCounts& of) {
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += static_cast<int>(blockDim.x)) {
    for (int at = 0, i = of.first_item[e]; at < of.counts[e]; at += a.rows_of_item, ++i) {
      a.items[i] = make_int4(e, of.starts[e] + at, min(a.rows_of_item, of.counts[e] - at), 0);
    }
  }
}

/// Pairs are counted, given their places, and put there. `shared`: 3 ints an expert.
__device__ __forceinline__ void group_in_block(const GroupArgs& a, int* shared) {
  const int threads = static_cast<int>(blockDim.x);
  const ExpertCounts of = expert_counts(a, shared);
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += threads) of.counts[e] = 0;
  __syncthreads();
  for (int p = static_cast<int>(threadIdx.x); p < a.pairs; p += threads) {
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) atomicAdd(&of.counts[id], 1);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    const int items = scan_counts(a, of);
    if (threadIdx.x == 0) *a.count = items;
  }
  __syncthreads();
  list_items(a, of);
  __syncthreads();  // `starts` now counts what is placed
  for (int p = static_cast<int>(threadIdx.x); p < a.pairs; p += threads) {
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) a.order[atomicAdd(&of.starts[id], 1)] = p;
  }
}

/// The same for at most kFewPairs, a thread each, which looks at all others. `shared`: 2 ints a pair.
inline constexpr int kFewPairs = 64;
__device__ __forceinline__ void group_few(const GroupArgs& a, int* shared) {
  const int p = static_cast<int>(threadIdx.x);
  const int within = a.rows_of_item - 1;  // a power of two
  int *ids = shared, *ranks = shared + kFewPairs;
  int id = -1, less = 0, before = 0, all = 0;
  if (p < a.pairs) {
    id = __ldcg(a.ids + p);
    if (id >= a.experts) id = -1;
    ids[p] = id;
  }
  __syncthreads();
  if (id >= 0) {
    for (int q = 0; q < a.pairs; ++q) {
      less += ids[q] >= 0 && ids[q] < id ? 1 : 0;
      before += ids[q] == id && q < p ? 1 : 0;
      all += ids[q] == id ? 1 : 0;
    }
  }
  if (p < a.pairs) ranks[p] = id >= 0 ? before : -1;
  __syncthreads();
  if (p >= a.pairs) return;
  int items = 0, items_before = 0;
  for (int q = 0; q < a.pairs; ++q) {
    const bool first = (ranks[q] & within) == 0;
    items += first ? 1 : 0;
    items_before += first && ids[q] < id ? 1 : 0;
  }
  if (p == 0) *a.count = items;
  if (id < 0) return;
  a.order[less + before] = p;
  if ((before & within) == 0) {
    a.items[items_before + before / a.rows_of_item] =
        make_int4(id, less + before, min(a.rows_of_item, all - before), 0);
  }
}

inline GroupArgs group_args(const PairGroups& groups, const Tensor& ids) {
  return {static_cast<const int*>(ids.data),    static_cast<int>(groups.pairs),
          static_cast<int>(groups.experts),     groups.rows_of_item,
          static_cast<int*>(groups.order.data), static_cast<int4*>(groups.items.data),
          static_cast<int*>(groups.count.data)};
}

}  // namespace baize::cuda
