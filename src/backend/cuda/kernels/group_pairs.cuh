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

/// Pairs are counted, given their places, and put there. `shared`: 3 ints an expert.
__device__ __forceinline__ void group_in_block(const GroupArgs& a, int* shared) {
  const int threads = static_cast<int>(blockDim.x);
  int* counts = shared;
  int* starts = shared + a.experts;
  int* first_item = shared + 2 * a.experts;
  for (int e = threadIdx.x; e < a.experts; e += threads) counts[e] = 0;
  __syncthreads();
  for (int p = threadIdx.x; p < a.pairs; p += threads) {
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
  for (int e = threadIdx.x; e < a.experts; e += threads) {
    for (int at = 0, i = first_item[e]; at < counts[e]; at += a.rows_of_item, ++i) {
      a.items[i] = make_int4(e, starts[e] + at, min(a.rows_of_item, counts[e] - at), 0);
    }
  }
  __syncthreads();  // `starts` now counts what is placed
  for (int p = threadIdx.x; p < a.pairs; p += threads) {
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) a.order[atomicAdd(&starts[id], 1)] = p;
  }
}

inline GroupArgs group_args(const PairGroups& groups, const Tensor& ids) {
  return {static_cast<const int*>(ids.data),    static_cast<int>(groups.pairs),
          static_cast<int>(groups.experts),     groups.rows_of_item,
          static_cast<int*>(groups.order.data), static_cast<int4*>(groups.items.data),
          static_cast<int*>(groups.count.data)};
}

}  // namespace baize::cuda
