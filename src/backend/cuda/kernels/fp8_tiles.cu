// Products of rows with fp8 weights on the fp8 matrix units, for the numbers of rows at which reading the weights is
// what takes time. The weights are the left factor, 128 of their rows a tile, and up to 256 rows of x the columns of
// the right one, so that few rows waste nothing. All tiles are cut into steps of 128 values along k, and every block
// takes an equal stretch of all steps, whichever tiles they belong to ("stream-K", Osama et al. 2023): a multiprocessor
// more or less than tiles costs nothing. Tiles that several blocks share are summed by the last of them, always in the
// same order.
#include <cuda.h>

#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/copy_box.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/wgmma_fp8.cuh"
#include "backend/cuda/tensor_map.h"

namespace baize::cuda {

namespace {

struct TileArgs {
  const float *w_scales, *x_scales;  // of rows; kGrouped: [steps, n] and [steps, m]
  const float* bias;                 // or null
  void* out;
  int64_t out_stride;
  bool out_f32;
  int n, m;
  int steps;         // of a tile along k
  int column_tiles;  // tiles of 128 rows of weights
  int units;         // steps of all tiles
  float alpha, softcap;
  float4* partials;  // [blocks, 2, kRows / 8, 256]
  int* counters;     // [tiles]: zero, and left zero
};

constexpr int kStepK = 128;        // bytes of a row that a swizzled panel holds
constexpr int kTileColumns = 128;  // rows of weights
constexpr int kBoxRows = 64;
constexpr int kConsumers = 256, kThreads = kConsumers + 32;

template <int kRows>
struct Tile {
  static constexpr int kWeightBytes = kTileColumns * kStepK;
  static constexpr int kStageBytes = kWeightBytes + kRows * kStepK;
  static constexpr int kStages = std::min(10, 220 * 1024 / kStageBytes);
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024;  // to begin at a multiple of 1,024
  static constexpr int kSums = kRows / 2;                            // of a thread
};

__device__ __forceinline__ int first_unit(const TileArgs& a, int block) {
  return static_cast<int>(static_cast<int64_t>(block) * a.units / gridDim.x);
}
__device__ __forceinline__ int block_of(const TileArgs& a, int unit) {
  return static_cast<int>((static_cast<int64_t>(unit + 1) * gridDim.x - 1) / a.units);
}

// One thread copies. The first weights come before the predecessor, which may still write x, has ended.
template <int kRows>
__device__ __forceinline__ void copy_units(const TileArgs& a, const CUtensorMap& w, const CUtensorMap& x,
                                           uint32_t memory, uint32_t full, uint32_t empty) {
  using T = Tile<kRows>;
  const int begin = first_unit(a, static_cast<int>(blockIdx.x)), end = first_unit(a, static_cast<int>(blockIdx.x) + 1);
  const auto copy_weights = [&](int unit, int slot) {
    const uint32_t at = memory + static_cast<uint32_t>(slot * T::kStageBytes), barrier = full + 8 * slot;
    const int column = unit / a.steps % a.column_tiles * kTileColumns, k = unit % a.steps * kStepK;
    expect_bytes(barrier, T::kStageBytes);
    copy_box(at, &w, k / 2, column, barrier);
    copy_box(at + kBoxRows * kStepK, &w, k / 2, column + kBoxRows, barrier);
  };
  const auto copy_rows = [&](int unit, int slot) {
    const uint32_t at = memory + static_cast<uint32_t>(slot * T::kStageBytes + T::kWeightBytes);
    copy_box(at, &x, unit % a.steps * kStepK / 2, unit / a.steps / a.column_tiles * kRows, full + 8 * slot);
  };
  const int ahead = min(T::kStages, end - begin);
  for (int i = 0; i < ahead; ++i) copy_weights(begin + i, i);
  pdl_wait();
  for (int i = 0; i < ahead; ++i) copy_rows(begin + i, i);
  for (int unit = begin + ahead, i = ahead; unit < end; ++unit, ++i) {
    const int slot = i % T::kStages;
    wait_barrier(empty + 8 * slot, static_cast<uint32_t>(i / T::kStages - 1) & 1);
    copy_weights(unit, slot);
    copy_rows(unit, slot);
  }
}

__device__ __forceinline__ void sync_consumers() { asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory"); }

// Adds what the blocks of a tile have summed, once all have; true in the block that came last.
template <int kRows>
__device__ __forceinline__ bool gather_parts(const TileArgs& a, int tile, int first_of_mine, float (&sum)[kRows / 2]) {
  __shared__ bool is_last;
  const int tid = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int from = block_of(a, tile * a.steps), to = block_of(a, (tile + 1) * a.steps - 1);
  if (from == to) return true;
  constexpr int kPart = kRows / 8 * kConsumers;  // float4s
  const auto part_of = [&](int other, bool second) {
    return a.partials + (other * 2 + (second ? 1 : 0)) * static_cast<int64_t>(kPart) + tid;
  };
  float4* mine = part_of(block, tile != first_of_mine);
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
    __stcg(mine + j * kConsumers, make_float4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3]));
  }
  __threadfence();
  sync_consumers();
  if (tid == 0) is_last = atomicAdd(a.counters + tile, 1) == to - from;
  sync_consumers();
  if (!is_last) return false;
  __threadfence();
  if (tid == 0) a.counters[tile] = 0;
#pragma unroll
  for (int i = 0; i < kRows / 2; ++i) sum[i] = 0;
  for (int other = from; other <= to; ++other) {
    const float4* part = part_of(other, first_unit(a, other) / a.steps != tile);
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j) {
      const float4 v = __ldcg(part + j * kConsumers);
      sum[4 * j] += v.x, sum[4 * j + 1] += v.y, sum[4 * j + 2] += v.z, sum[4 * j + 3] += v.w;
    }
  }
  return true;
}

// Sums of 16 rows of weights by eight rows of x at a time, turned so that a row's results lie side by side.
template <int kRows, bool kGrouped>
__device__ __forceinline__ void store_tile(const TileArgs& a, int tile, const float (&sum)[kRows / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column0 = tile % a.column_tiles * kTileColumns + warp * 16, row0 = tile / a.column_tiles * kRows;
  const int mine = column0 + lane / 4;  // the rows of weights of this lane's sums: this, and eight on
  float scale[2] = {a.alpha, a.alpha}, bias[2] = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (mine + 8 * i >= a.n) continue;
    if constexpr (!kGrouped) scale[i] *= a.w_scales[mine + 8 * i];
    if (a.bias != nullptr) bias[i] = a.bias[mine + 8 * i];
  }
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
    if (row0 + j * 8 >= a.m) break;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = row0 + j * 8 + lane % 4 * 2 + i % 2;
      const float of_row = kGrouped || row >= a.m ? 1.0f : a.x_scales[row];
      v[i] = sum[4 * j + i] * of_row * scale[i / 2] + bias[i / 2];
      if (a.softcap > 0) v[i] = a.softcap * tanhf(v[i] / a.softcap);
      if (a.out_f32 && row < a.m && mine + i / 2 * 8 < a.n) {
        static_cast<float*>(a.out)[row * a.out_stride + mine + i / 2 * 8] = v[i];
      }
    }
    if (a.out_f32) continue;
    const uint32_t low = transpose_matrix(pack_bf16(v[0], v[1])), high = transpose_matrix(pack_bf16(v[2], v[3]));
    const int row = row0 + j * 8 + lane / 4, column = column0 + lane % 4 * 2;
    if (row >= a.m) continue;
    auto* to = static_cast<__nv_bfloat16*>(a.out) + row * a.out_stride;
    if (column < a.n) *reinterpret_cast<uint32_t*>(to + column) = low;
    if (column + 8 < a.n) *reinterpret_cast<uint32_t*>(to + column + 8) = high;
  }
}

// sum += part, each times the scales of its rows in this step.
template <int kRows>
__device__ __forceinline__ void add_scaled(const TileArgs& a, int tile, int step, const float (&part)[kRows / 2],
                                           float (&sum)[kRows / 2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column = tile % a.column_tiles * kTileColumns + warp * 16 + lane / 4;
  const int row0 = tile / a.column_tiles * kRows + lane % 4 * 2;
  const float* w = a.w_scales + static_cast<int64_t>(step) * a.n;
  const float* x = a.x_scales + static_cast<int64_t>(step) * a.m;
  const float low = column < a.n ? w[column] : 0.0f, high = column + 8 < a.n ? w[column + 8] : 0.0f;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = row0 + j * 8 + i;
      const float of_row = row < a.m ? x[row] : 0.0f;
      sum[4 * j + i] += part[4 * j + i] * low * of_row;
      sum[4 * j + 2 + i] += part[4 * j + 2 + i] * high * of_row;
    }
  }
}

template <int kRows, bool kGrouped>
__device__ __forceinline__ void multiply_units(const TileArgs& a, uint32_t memory, uint32_t full, uint32_t empty) {
  using T = Tile<kRows>;
  const int begin = first_unit(a, static_cast<int>(blockIdx.x)), end = first_unit(a, static_cast<int>(blockIdx.x) + 1);
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool signals = threadIdx.x % 32 == 0;
  const int first_of_mine = begin / a.steps;
  for (int unit = begin, i = 0; unit < end;) {
    const int tile = unit / a.steps, tile_end = min(end, (tile + 1) * a.steps);
    float sum[T::kSums];
    [[maybe_unused]] float part[kGrouped ? T::kSums : 1];
    if constexpr (kGrouped) {
#pragma unroll
      for (int s = 0; s < T::kSums; ++s) sum[s] = 0;
    }
    int before = -1;  // the stage that may still be read
    for (const int first = unit; unit < tile_end; ++unit, ++i) {
      const int slot = i % T::kStages;
      wait_barrier(full + 8 * slot, static_cast<uint32_t>(i / T::kStages) & 1);
      const uint32_t at = memory + static_cast<uint32_t>(slot * T::kStageBytes);
      const uint32_t weights = at + static_cast<uint32_t>(group * kBoxRows * kStepK), rows = at + T::kWeightBytes;
      warpgroup_arrive();
#pragma unroll
      for (int c = 0; c < kStepK / 32; ++c) {
        const uint64_t left = along_k(weights + static_cast<uint32_t>(c * 32));
        const uint64_t right = along_k(rows + static_cast<uint32_t>(c * 32));
        if constexpr (kGrouped) {
          warpgroup_mma_e4m3(part, left, right, c > 0);
        } else {
          warpgroup_mma_e4m3(sum, left, right, unit > first || c > 0);
        }
      }
      warpgroup_commit();
      if constexpr (kGrouped) {
        warpgroup_wait<0>();
        keep(part);
        if (signals) arrive_barrier(empty + 8 * slot);
        add_scaled<kRows>(a, tile, unit % a.steps, part, sum);
      } else {
        warpgroup_wait<1>();
        if (signals && before >= 0) arrive_barrier(empty + 8 * before);
        before = slot;
      }
    }
    if constexpr (!kGrouped) {
      warpgroup_wait<0>();
      keep(sum);
      if (signals) arrive_barrier(empty + 8 * before);
    }
    if (gather_parts<kRows>(a, tile, first_of_mine, sum)) store_tile<kRows, kGrouped>(a, tile, sum);
  }
}

template <int kRows, bool kGrouped>
__global__ void __launch_bounds__(kThreads, 1)
    fp8_tiles_kernel(const __grid_constant__ TileArgs a, const __grid_constant__ CUtensorMap w,
                     const __grid_constant__ CUtensorMap x) {
  using T = Tile<kRows>;
  extern __shared__ uint8_t shared[];
  __shared__ __align__(8) uint64_t barriers[2 * T::kStages];  // a stage is full, and empty again
  const uint32_t memory = (shared_address(shared) + 1023) / 1024 * 1024;
  const uint32_t full = shared_address(barriers), empty = full + 8 * T::kStages;
  pdl_launch();
  if (threadIdx.x == 0) {
    for (int i = 0; i < T::kStages; ++i) {
      init_barrier(full + 8 * i, 1);
      init_barrier(empty + 8 * i, kConsumers / 32);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x >= kConsumers) {
    if (threadIdx.x == kConsumers) copy_units<kRows>(a, w, x, memory, full, empty);
    return;
  }
  pdl_wait();
  multiply_units<kRows, kGrouped>(a, memory, full, empty);
}

// The bytes of a matrix as pairs, which the copy engine's maps of bf16 describe.
CUtensorMap byte_map(const void* data, int64_t rows, int64_t k, int64_t box_rows) {
  const int64_t sizes[] = {k / 2, rows}, strides[] = {k / 2}, box[] = {kStepK / 2, box_rows};
  return tensor_map(const_cast<void*>(data), sizes, strides, box);
}

template <int kRows, bool kGrouped>
void run(cudaStream_t stream, const Fp8Product& p, TileArgs a, int sms) {
  using T = Tile<kRows>;
  auto* kernel = fp8_tiles_kernel<kRows, kGrouped>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  check(raised, "reserve shared memory");
  a.units = a.column_tiles * a.steps * static_cast<int>((p.m + kRows - 1) / kRows);
  launch("multiply in fp8", kernel, dim3(static_cast<unsigned>(std::min(sms, a.units))), dim3(kThreads),
         T::kSharedBytes, stream, a, byte_map(p.w, p.n, p.k, kBoxRows), byte_map(p.x, p.m, p.k, kRows));
}

template <bool kGrouped>
void run_rows(cudaStream_t stream, const Fp8Product& p, const TileArgs& a, int sms) {
  if (p.m <= 16) return run<16, kGrouped>(stream, p, a, sms);
  if (p.m <= 32) return run<32, kGrouped>(stream, p, a, sms);
  if (kGrouped || p.m <= 64) return run<64, kGrouped>(stream, p, a, sms);
  if constexpr (!kGrouped) {
    if (p.m <= 128) return run<128, kGrouped>(stream, p, a, sms);
    run<256, kGrouped>(stream, p, a, sms);
  }
}

}  // namespace

int64_t fp8_tiles_workspace(int64_t m) {
  constexpr int64_t kMostBlocks = 160;  // multiprocessors
  const int64_t rows = m <= 16 ? 16 : m <= 32 ? 32 : m <= 64 ? 64 : m <= 128 ? 128 : 256;
  return kMostBlocks * 2 * (rows / 8) * kConsumers * static_cast<int64_t>(sizeof(float4));
}

bool fp8_tiles_fit(int64_t m, int64_t n, int64_t k, int64_t counters) {
  const int64_t tiles = (n + kTileColumns - 1) / kTileColumns * ((m + 63) / 64);  // at most
  return tiles <= counters && tiles * ((k + kStepK - 1) / kStepK) < INT_MAX;
}

void fp8_tiles(cudaStream_t stream, const Fp8Product& p, const Fp8Result& to, int sms) {
  TileArgs a{};
  a.w_scales = p.w_scales;
  a.x_scales = p.x_scales;
  a.bias = static_cast<const float*>(to.bias.data);
  a.out = to.out.data;
  a.out_stride = to.out.strides[0];
  a.out_f32 = to.out.dtype == DType::kF32;
  a.n = static_cast<int>(p.n);
  a.m = static_cast<int>(p.m);
  a.steps = static_cast<int>((p.k + kStepK - 1) / kStepK);
  a.column_tiles = static_cast<int>((p.n + kTileColumns - 1) / kTileColumns);
  a.alpha = to.alpha;
  a.softcap = to.softcap;
  a.partials = static_cast<float4*>(to.partials);
  a.counters = to.counters;
  p.group == 0 ? run_rows<false>(stream, p, a, sms) : run_rows<true>(stream, p, a, sms);
}

}  // namespace baize::cuda
