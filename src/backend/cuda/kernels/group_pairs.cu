// Pairs of a step by expert: by one block for few, by many for many. The order of an expert's pairs among themselves is
// any: no result depends on it.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/group_pairs.cuh"

namespace baize::cuda {

namespace {

constexpr int kMostExperts = 4096;
constexpr int kThreads = 1024;
constexpr int64_t kManyPairs = 8192;
constexpr int kEach = 4;  // pairs of a thread, of many

__global__ void __launch_bounds__(kThreads) group_kernel(const __grid_constant__ GroupArgs a) {
  extern __shared__ int shared[];
  pdl_launch();
  pdl_wait();
  group_in_block(a, shared);
}

// A pair's number among those of its expert; `counts`, zero before, becomes what each expert has.
__global__ void __launch_bounds__(kThreads)
    rank_kernel(const __grid_constant__ GroupArgs a, int* __restrict__ ranks, int* counts) {
  extern __shared__ int shared[];
  pdl_launch();
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += kThreads) shared[e] = 0;
  pdl_wait();
  __syncthreads();
  int id[kEach], rank[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int p = (static_cast<int>(blockIdx.x) * kEach + i) * kThreads + static_cast<int>(threadIdx.x);
    id[i] = p < a.pairs ? a.ids[p] : -1;
    if (id[i] >= a.experts) id[i] = -1;
    if (id[i] >= 0) rank[i] = atomicAdd(&shared[id[i]], 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += kThreads) {
    if (shared[e] > 0) shared[e] = atomicAdd(&counts[e], shared[e]);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int p = (static_cast<int>(blockIdx.x) * kEach + i) * kThreads + static_cast<int>(threadIdx.x);
    if (id[i] >= 0) ranks[p] = shared[id[i]] + rank[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    place_kernel(const __grid_constant__ GroupArgs a, const int* __restrict__ ranks, const int* __restrict__ counts) {
  extern __shared__ int shared[];
  const ExpertCounts of = expert_counts(a, shared);
  pdl_launch();
  pdl_wait();
  for (int e = static_cast<int>(threadIdx.x); e < a.experts; e += kThreads) of.counts[e] = counts[e];
  __syncthreads();
  if (threadIdx.x < 32) {
    const int items = scan_counts(a, of);
    if (threadIdx.x == 0 && blockIdx.x == 0) *a.count = items;
  }
  __syncthreads();
  if (blockIdx.x == 0) list_items(a, of);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int p = (static_cast<int>(blockIdx.x) * kEach + i) * kThreads + static_cast<int>(threadIdx.x);
    if (p >= a.pairs) break;
    const int id = a.ids[p];
    if (id >= 0 && id < a.experts) a.order[of.starts[id] + ranks[p]] = p;
  }
}

}  // namespace

int64_t group_workspace(int64_t pairs, int64_t experts) { return pairs > kManyPairs ? pairs + experts : 0; }

void group_pairs(cudaStream_t stream, const PairGroups& groups, const Tensor& ids) {
  if (groups.experts > kMostExperts) unsupported("the CUDA backend has no layers of more than 4,096 experts");
  const GroupArgs a = group_args(groups, ids);
  const size_t bytes = static_cast<size_t>(a.experts) * sizeof(int);
  if (groups.pairs <= kManyPairs) {
    return launch("group rows by expert", group_kernel, dim3(1), dim3(kThreads), 3 * bytes, stream, a);
  }
  auto* counts = static_cast<int*>(groups.workspace.data);
  int* ranks = counts + a.experts;
  check(cudaMemsetAsync(counts, 0, bytes, stream), "count rows by expert");
  const dim3 blocks(static_cast<unsigned>((a.pairs + kEach * kThreads - 1) / (kEach * kThreads)));
  launch("count rows by expert", rank_kernel, blocks, dim3(kThreads), bytes, stream, a, ranks, counts);
  launch("group rows by expert", place_kernel, blocks, dim3(kThreads), 3 * bytes, stream, a, ranks, counts);
}

}  // namespace baize::cuda
