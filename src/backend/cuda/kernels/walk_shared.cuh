// What the parts of the walk (walk.cu, walk_attention.cuh) share: the block's layout, barriers and copies.
#pragma once

#include <cfloat>

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/walk.h"

namespace baize::cuda {

constexpr int kWarps = 16;  // that compute; one more copies
constexpr int kThreads = kWarps * 32;
constexpr int kGroupWarps = 4;  // share a stage; the groups take turns
constexpr int kGroups = kWarps / kGroupWarps;
constexpr float kLog2E = 1.4426950408889634f;
constexpr int kStepWords = sizeof(WalkStep) / 4;
static_assert(sizeof(WalkStep) % 4 == 0 && kStepWords <= kThreads);

struct Control {
  uint64_t full[32], empty[32];
  WalkStep step[2];
  float reduce[33];
  unsigned start;
  int position;
};

// ---- barriers in shared memory (PTX mbarrier), bulk copies, and the barrier of the grid

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void barrier_init(uint64_t* b, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count));
}
__device__ __forceinline__ void barrier_arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* b, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra again;\n"
      "}" ::"r"(shared_address(b)),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(void* to, const void* from, int bytes, uint64_t* b, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(b)), "l"(policy)
      : "memory");
}
__device__ __forceinline__ void sync_compute() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

__device__ __forceinline__ void sync_grid(unsigned* counter, unsigned target) {
  sync_compute();
  // The barrier of the block and a release that is cumulative order what all threads wrote.
  if (threadIdx.x == 0) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
    unsigned seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (static_cast<int>(seen - target) < 0);
  }
  sync_compute();
}

// Eight bf16 written by another block: not through L1, which may hold older values.
__device__ __forceinline__ void load8_fresh(const void* p, int64_t i, float (&v)[8]) {
  unpack_bf16(__ldcg(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(p) + i)), v);
}

__device__ __forceinline__ float sum_compute(float v, float* reduce) {
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) reduce[threadIdx.x / 32] = v;
  sync_compute();
  float total = 0;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) total += reduce[i];
  return total;
}

}  // namespace baize::cuda
