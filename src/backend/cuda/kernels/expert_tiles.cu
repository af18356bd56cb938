// Products of experts with bf16 weights on Hopper's matrix units, for one pair as for a hundred thousand. The weights
// are the left factor, 64 rows of each of two matrices at a time, and the pairs of one expert, as many as an item has
// (8 to 128), the columns of the right one: so few pairs waste nothing, and the weights stream through shared memory by
// the copy engine while a warpgroup gathers the rows of the pairs. Resident blocks take (item, stretch of columns) in
// turn, and copy ahead over the end of each.
//  - first product: the two matrices are gate and up, and what is kept is act(gate) * up, in the order of the items;
//  - second: both are parts of down, and each pair's results go to its own row.
#include <cuda.h>

#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/copy_box.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/wgmma.cuh"

namespace baize::cuda {

namespace {

struct TileArgs {
  const CUtensorMap *first, *second;          // of each expert
  const ExpertWeights *first_of, *second_of;  // their factors
  int second_row;                             // of the second matrix, where the first's is 0
  const int* order;
  const int4* items;
  const int* count;
  const __nv_bfloat16* x;
  int64_t x_stride;
  int pairs_of_row;  // of x, in the first product
  __nv_bfloat16* out;
  int64_t out_stride;
  int k, n;     // n: columns of the result
  int columns;  // stretches of columns of a matrix
  Activation activation;
};

constexpr int kBlockK = 64, kBoxRows = 64;
constexpr int kBoxBytes = kBoxRows * kBlockK * 2;
constexpr int kCopyThreads = 128;

template <int kPairs, int kGroups>
struct Tile {
  static constexpr int kThreads = kGroups * 128 + kCopyThreads;
  static constexpr int kWeightBytes = kGroups * 2 * kBoxBytes;
  static constexpr int kStageBytes = kWeightBytes + kPairs * kBlockK * 2;
  static constexpr int kStages = std::min(10, 220 * 1024 / kStageBytes);
  static constexpr int kLag = kStages / 2;                           // stages of gathered rows that are under way
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024;  // to begin at a multiple of 1,024
};

// A place in the ring of stages; consumers begin with parity 0, and producers, whose first waits must pass, with 1.
template <int kStages>
struct Slot {
  uint32_t parity;
  int index = 0;
  __device__ __forceinline__ void next() {
    if (++index == kStages) {
      index = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ float gate_value(float g, Activation activation) {
  return activation == Activation::kSilu ? g / (1.0f + __expf(-g)) : activation_of({.kind = activation}, g);
}

// The warpgroup that copies: one thread the weights, all of them the rows of the pairs.
template <int kPairs, int kGroups, bool kGated>
__device__ __forceinline__ void copy_tiles(const TileArgs& a, int works, uint32_t memory, uint32_t full,
                                           uint32_t empty) {
  using T = Tile<kPairs, kGroups>;
  constexpr int kEach = (kPairs + 15) / 16;  // rows of a thread
  constexpr int kGroupRows = kGated ? kBoxRows : 2 * kBoxRows;
  const int tid = static_cast<int>(threadIdx.x) % 128, lane = tid % 32;
  const int chunk = tid % 8;
  Slot<T::kStages> slot{1}, signalled{0};
  int step = 0;
  const auto signal = [&] {
    publish_shared();
    __syncwarp();
    if (lane == 0) arrive_barrier(full + 8 * signalled.index);
    signalled.next();
  };
  for (int work = static_cast<int>(blockIdx.x); work < works; work += static_cast<int>(gridDim.x)) {
    const int4 item = a.items[work / a.columns];
    const int column0 = work % a.columns * kGroups * kGroupRows;
    const __nv_bfloat16* row[kEach];
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int r = tid / 8 + 16 * j;
      row[j] = nullptr;
      if (r >= item.z) continue;
      const int from = kGated ? a.order[item.y + r] / a.pairs_of_row : item.y + r;
      row[j] = a.x + from * a.x_stride;
    }
    const CUtensorMap *first = a.first + item.x, *second = a.second + item.x;
    if (tid == 0) {
      acquire_map(first);
      if (second != first) acquire_map(second);
    }
    for (int k0 = 0; k0 < a.k; k0 += kBlockK, ++step, slot.next()) {
      const uint32_t at = memory + static_cast<uint32_t>(slot.index * T::kStageBytes);
      wait_barrier(empty + 8 * slot.index, slot.parity);
      if (tid == 0) {
        const uint32_t barrier = full + 8 * slot.index;
        expect_bytes(barrier, T::kWeightBytes);
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          const int at_row = column0 + g * kGroupRows;
          copy_box(at + 2 * g * kBoxBytes, first, k0, at_row, barrier);
          copy_box(at + (2 * g + 1) * kBoxBytes, second, k0, at_row + a.second_row, barrier);
        }
      }
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int r = tid / 8 + 16 * j;
        if (kPairs < 16 && r >= kPairs) break;
        const bool inside = row[j] != nullptr && k0 + chunk * 8 < a.k;
        copy_async(at + T::kWeightBytes + panel_offset(kPairs, r, chunk), inside ? row[j] + k0 + chunk * 8 : a.x,
                   inside);
      }
      commit_async();
      if (step < T::kLag) continue;
      wait_async<T::kLag>();
      signal();
    }
  }
  wait_async<0>();
  for (int left = min(step, T::kLag); left > 0; --left) signal();
}

// Two products of 64 rows of weights with the pairs of an item.
template <int kPairs, int kGroups>
__device__ __forceinline__ void multiply_tile(const TileArgs& a, Slot<Tile<kPairs, kGroups>::kStages>& slot,
                                              uint32_t memory, uint32_t full, uint32_t empty,
                                              float (&first)[kPairs / 2], float (&second)[kPairs / 2]) {
  using T = Tile<kPairs, kGroups>;
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool signals = threadIdx.x % 32 == 0;  // a warp's wait is for its own part of the products
  int before = -1;                             // the stage that may still be read
  for (int k0 = 0; k0 < a.k; k0 += kBlockK, slot.next()) {
    wait_barrier(full + 8 * slot.index, slot.parity);
    const uint32_t at = memory + static_cast<uint32_t>(slot.index * T::kStageBytes);
    const uint32_t weights = at + static_cast<uint32_t>(2 * group * kBoxBytes), rows = at + T::kWeightBytes;
    warpgroup_arrive();
#pragma unroll
    for (int c = 0; c < kBlockK / 16; ++c) {
      const uint64_t right = along_k(rows + static_cast<uint32_t>(c * 32));
      warpgroup_mma(first, along_k(weights + static_cast<uint32_t>(c * 32)), right, k0 + c > 0);
      warpgroup_mma(second, along_k(weights + kBoxBytes + static_cast<uint32_t>(c * 32)), right, k0 + c > 0);
    }
    warpgroup_commit();
    warpgroup_wait<1>();
    if (signals && before >= 0) arrive_barrier(empty + 8 * before);
    before = slot.index;
  }
  warpgroup_wait<0>();
  keep(first);
  keep(second);
  if (signals) arrive_barrier(empty + 8 * before);
}

// Results of 16 rows of weights by eight pairs at a time, turned so that a pair's lie side by side.
__device__ __forceinline__ void store_turned(const TileArgs& a, const float* v, __nv_bfloat16* to, int column) {
  const uint32_t low = transpose_matrix(pack_bf16(v[0], v[1])), high = transpose_matrix(pack_bf16(v[2], v[3]));
  if (to == nullptr) return;
  if (column < a.n) *reinterpret_cast<uint32_t*>(to + column) = low;
  if (column + 8 < a.n) *reinterpret_cast<uint32_t*>(to + column + 8) = high;
}

template <int kPairs, int kGroups, bool kGated>
__device__ __forceinline__ void store_tile(const TileArgs& a, int work, float (&first)[kPairs / 2],
                                           float (&second)[kPairs / 2]) {
  constexpr int kGroupRows = kGated ? kBoxRows : 2 * kBoxRows;
  const int4 item = a.items[work / a.columns];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = (work % a.columns * kGroups + warp / 4) * kGroupRows + warp % 4 * 16 + lane % 4 * 2;
  const float first_factor = a.first_of[item.x].alpha, second_factor = a.second_of[item.x].alpha;
#pragma unroll
  for (int j = 0; j < kPairs / 8; ++j) {
    if (j * 8 >= item.z) break;
    const int pair = item.y + j * 8 + lane / 4;
    __nv_bfloat16* to = nullptr;
    if (j * 8 + lane / 4 < item.z) to = a.out + (kGated ? pair : a.order[pair]) * a.out_stride;
    float* v = &first[j * 4];
    float* u = &second[j * 4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] *= first_factor;
      u[i] *= second_factor;
      if constexpr (kGated) v[i] = gate_value(v[i], a.activation) * u[i];
    }
    store_turned(a, v, to, column);
    if constexpr (!kGated) store_turned(a, u, to, column + kBoxRows);
  }
}

template <int kPairs, int kGroups, bool kGated>
__global__ void __launch_bounds__(Tile<kPairs, kGroups>::kThreads, 1)
    expert_tiles_kernel(const __grid_constant__ TileArgs a) {
  using T = Tile<kPairs, kGroups>;
  extern __shared__ uint8_t shared[];
  __shared__ __align__(8) uint64_t barriers[2 * T::kStages];  // a stage is full, and empty again
  const uint32_t memory = (shared_address(shared) + 1023) / 1024 * 1024;
  const uint32_t full = shared_address(barriers), empty = full + 8 * T::kStages;
  pdl_launch();
  if (threadIdx.x == 0) {
    for (int i = 0; i < T::kStages; ++i) {
      init_barrier(full + 8 * i, 1 + kCopyThreads / 32);
      init_barrier(empty + 8 * i, kGroups * 4);
    }
    publish_barriers();
  }
  __syncthreads();
  pdl_wait();
  const int works = *a.count * a.columns;
  if (threadIdx.x >= kGroups * 128) {
    copy_tiles<kPairs, kGroups, kGated>(a, works, memory, full, empty);
    return;
  }
  Slot<T::kStages> slot{0};
  for (int work = static_cast<int>(blockIdx.x); work < works; work += static_cast<int>(gridDim.x)) {
    float first[kPairs / 2], second[kPairs / 2];
    multiply_tile<kPairs, kGroups>(a, slot, memory, full, empty, first, second);
    store_tile<kPairs, kGroups, kGated>(a, work, first, second);
  }
}

template <int kPairs, int kGroups, bool kGated>
void run(cudaStream_t stream, TileArgs a, int64_t most_items, int sms) {
  using T = Tile<kPairs, kGroups>;
  auto* kernel = expert_tiles_kernel<kPairs, kGroups, kGated>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  check(raised, "reserve shared memory");
  constexpr int kColumns = kGroups * (kGated ? kBoxRows : 2 * kBoxRows);
  a.columns = (a.n + kColumns - 1) / kColumns;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(sms, most_items * a.columns));
  launch("multiply by experts", kernel, dim3(blocks), dim3(T::kThreads), T::kSharedBytes, stream, a);
}

template <bool kGated>
void run_tiles(cudaStream_t stream, const TileArgs& a, const PairGroups& groups, int sms) {
  switch (groups.rows_of_item) {
    case 8:
      return run<8, 1, kGated>(stream, a, groups.most_items, sms);
    case 16:
      return run<16, 1, kGated>(stream, a, groups.most_items, sms);
    case 32:
      return run<32, 1, kGated>(stream, a, groups.most_items, sms);
    case 64:
      return run<64, 2, kGated>(stream, a, groups.most_items, sms);
    default:
      return run<128, 2, kGated>(stream, a, groups.most_items, sms);
  }
}

TileArgs tile_args(const PairGroups& groups, const Tensor& x, const Tensor& out) {
  TileArgs a{};
  a.order = static_cast<const int*>(groups.order.data);
  a.items = static_cast<const int4*>(groups.items.data);
  a.count = static_cast<const int*>(groups.count.data);
  a.x = static_cast<const __nv_bfloat16*>(x.data);
  a.x_stride = x.strides[0];
  a.out = static_cast<__nv_bfloat16*>(out.data);
  a.out_stride = out.strides[0];
  a.k = static_cast<int>(x.shape[1]);
  a.n = static_cast<int>(out.shape[1]);
  return a;
}

}  // namespace

int expert_tile_pairs(int64_t pairs, int64_t experts) {
  if (pairs <= 2 * experts) return 8;
  if (pairs <= 8 * experts) return 16;
  if (pairs <= 20 * experts) return 32;
  return pairs <= 48 * experts ? 64 : 128;
}

void expert_tiles_up(cudaStream_t stream, const ExpertPart& gate, const ExpertPart& up, const PairGroups& groups,
                     const Tensor& x, Activation activation, const Tensor& active, int sms) {
  TileArgs a = tile_args(groups, x, active);
  const bool apart = gate.maps != nullptr;
  a.first = apart ? gate.maps : up.maps;
  a.second = up.maps;
  a.first_of = apart ? gate.experts : up.experts;
  a.second_of = up.experts;
  a.second_row = apart ? 0 : a.n;
  a.pairs_of_row = static_cast<int>(groups.pairs / x.shape[0]);
  a.activation = activation;
  run_tiles<true>(stream, a, groups, sms);
}

void expert_tiles_down(cudaStream_t stream, const ExpertPart& down, const PairGroups& groups, const Tensor& active,
                       const Tensor& results, int sms) {
  TileArgs a = tile_args(groups, active, results);
  a.first = a.second = down.maps;
  a.first_of = a.second_of = down.experts;
  a.second_row = kBoxRows;
  run_tiles<false>(stream, a, groups, sms);
}

}  // namespace baize::cuda
