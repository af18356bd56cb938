// Attention for many rows a sequence (prefill), bf16, on Hopper's matrix units: FlashAttention (Dao 2023; Shah et al.
// 2024) over the paged cache. A block takes a tile of 128 rows of one sequence and one query head, each of its two
// warpgroups 64 of them; keys and values stream through two stages of shared memory. Two blocks share a multiprocessor,
// so that one multiplies while the other takes exponentials.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/copy_box.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/paged.h"
#include "backend/cuda/kernels/wgmma.cuh"
#include "backend/cuda/tensor_map.h"

namespace baize::cuda {

namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMasked = -1e30f;  // finite, so that differences of maxima are numbers

struct TilesArgs {
  Mat q, out;
  const int* table;  // [seqs, table_stride]
  int table_stride;
  int block;  // tokens of a page
  const int* positions;
  const int* q_start;
  int seqs, least_rows;
  float scale, softcap;
  int window;
  int head_dim, group;
};

template <int kDim>
struct Tile {
  static constexpr int kRows = 128, kKeys = 64, kThreads = 256;
  static constexpr int kChunks = kDim / 8;  // 16-byte pieces of a row
  static constexpr int kKvBytes = kKeys * kDim * 2;
  static constexpr int kQBytes = kRows * kDim * 2;
  static constexpr int kSharedBytes = kQBytes + 4 * kKvBytes + 1024;  // to begin at a multiple of 1,024
  static constexpr int kBlocks = kDim <= 128 ? 2 : 1;                 // a multiprocessor holds
  static constexpr int kPart = kDim < 128 ? 64 : 128;                 // columns of the result multiplied at once
};

constexpr int kBoxKeys = 16;  // of one copy: they lie in one page

// Keys and values of a tile, copied by the first warp, a box of 16 keys by 64 dimensions a lane.
template <int kDim>
struct Fetch {
  using T = Tile<kDim>;
  static constexpr int kPages = T::kKeys / kBoxKeys, kPanels = kDim / 64;
  static_assert(2 * kPages * kPanels <= 32, "a box a lane");
  int page = 0;  // of this lane's box

  // Ahead of copy(), so that the table has been read when the copies begin.
  __device__ __forceinline__ void find(const TilesArgs& a, const int* table, int t0, int end) {
    const int t = t0 + static_cast<int>(threadIdx.x) % kPages * kBoxKeys;
    page = t < end ? max(table[t / a.block], 0) : 0;  // any page will do where no row looks
  }
  __device__ __forceinline__ void copy(const TilesArgs& a, const CUtensorMap& k_map, const CUtensorMap& v_map,
                                       int kv_head, int t0, uint32_t to, uint32_t barrier) const {
    const int lane = static_cast<int>(threadIdx.x);
    if (lane == 0) expect_bytes(barrier, 2 * T::kKvBytes);
    __syncwarp();
    if (lane >= 2 * kPages * kPanels) return;
    const int box = lane % kPages, panel = lane / kPages % kPanels;
    const bool is_value = lane / kPages / kPanels > 0;
    copy_box(to + static_cast<uint32_t>((is_value ? T::kKvBytes : 0) + (panel * T::kKeys + box * kBoxKeys) * 128),
             is_value ? v_map : k_map, panel * 64, (t0 + box * kBoxKeys) % a.block, kv_head, page, barrier);
  }
};

__device__ __forceinline__ float exp2_fast(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

struct TileOf {
  int seq, tile;  // seq: -1 beyond the last
};

// Tile `index` of all: each lane counts those of a sequence.
__device__ __forceinline__ TileOf find_tile(const TilesArgs& a, int rows_of_tile, int index) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int base = 0; base < a.seqs; base += 32) {
    const int seq = base + lane;
    const int rows = seq < a.seqs ? a.q_start[seq + 1] - a.q_start[seq] : 0;
    const int mine = rows >= a.least_rows ? (rows + rows_of_tile - 1) / rows_of_tile : 0;
    int upto = mine;
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
      const int below = __shfl_up_sync(~0u, upto, o);
      if (lane >= o) upto += below;
    }
    const unsigned reached = __ballot_sync(~0u, upto > index);
    if (reached != 0) {
      const int first = __ffs(static_cast<int>(reached)) - 1;
      return {base + first, index - __shfl_sync(~0u, upto - mine, first)};
    }
    index -= __shfl_sync(~0u, upto, 31);
  }
  return {-1, 0};
}

// Zeros outside rows [from, to) of a tile of values.
template <int kDim>
__device__ __forceinline__ void clear_values(uint32_t v_at, int from, int to) {
  using T = Tile<kDim>;
  for (int i = static_cast<int>(threadIdx.x); i < T::kKeys * T::kChunks; i += T::kThreads) {
    const int r = i / T::kChunks;
    if (r < from || r >= to) store_zeros(v_at + panel_offset(T::kKeys, r, i % T::kChunks));
  }
}

template <int kDim>
__global__ void __launch_bounds__(Tile<kDim>::kThreads, Tile<kDim>::kBlocks)
    attention_tiles_kernel(const __grid_constant__ TilesArgs a, const __grid_constant__ CUtensorMap k_map,
                           const __grid_constant__ CUtensorMap v_map) {
  using T = Tile<kDim>;
  extern __shared__ uint8_t memory[];
  __shared__ __align__(8) uint64_t barriers[2];  // of the stages: keys and values have arrived
  pdl_launch();
  pdl_wait();
  // The last tiles, which see the most keys, start first.
  const auto [seq, tile] = find_tile(a, T::kRows, static_cast<int>(gridDim.y - 1 - blockIdx.y));
  if (seq < 0) return;
  const int row0 = a.q_start[seq] + tile * T::kRows;
  const int rows = min(T::kRows, a.q_start[seq + 1] - row0);
  const int head = static_cast<int>(blockIdx.x), kv_head = head / a.group;
  const int* table = a.table + static_cast<int64_t>(seq) * a.table_stride;
  // The keys that some row sees.
  const int seen = a.window > 0 ? max(0, a.positions[row0] - a.window + 1) : 0;
  const int begin = seen / T::kKeys * T::kKeys, end = a.positions[row0 + rows - 1] + 1;

  const uint32_t q_at = (shared_address(memory) + 1023) / 1024 * 1024;
  const uint32_t kv_at = q_at + T::kQBytes;
  const auto stage_at = [&](int s) { return kv_at + static_cast<uint32_t>(s * 2 * T::kKvBytes); };
  const auto barrier_of = [&](int s) { return shared_address(&barriers[s]); };
  Fetch<kDim> fetch;
  if (threadIdx.x < 32) {
    fetch.find(a, table, begin, end);
    if (threadIdx.x == 0) {
      init_barrier(barrier_of(0), 1);
      init_barrier(barrier_of(1), 1);
      publish_barriers();
    }
    __syncwarp();
    fetch.copy(a, k_map, v_map, kv_head, begin, stage_at(0), barrier_of(0));
    fetch.find(a, table, begin + T::kKeys, end);
  }
  for (int i = static_cast<int>(threadIdx.x); i < T::kRows * T::kChunks; i += T::kThreads) {
    const int r = i / T::kChunks, c = i % T::kChunks;
    const bool inside = r < rows && c * 8 < a.head_dim;
    const auto* q = static_cast<const __nv_bfloat16*>(a.q.data);
    copy_async(q_at + panel_offset(T::kRows, r, c),
               inside ? q + static_cast<int64_t>(row0 + r) * a.q.stride + head * a.head_dim + c * 8 : q, inside);
  }
  commit_async();
  wait_async<0>();
  publish_shared();

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int half = warp / 4 * 64;  // the first row of this warpgroup
  const int r0 = warp * 16 + lane / 4, r1 = r0 + 8;
  const int position0 = r0 < rows ? a.positions[row0 + r0] : -1;
  const int position1 = r1 < rows ? a.positions[row0 + r1] : -1;
  // The keys that some row of the warpgroup sees, [first - window + 1, last], and those that all see, up to first.
  const int first = half < rows ? a.positions[row0 + half] : 0;
  const int last = half < rows ? a.positions[row0 + min(rows, half + 64) - 1] : -1;
  const float scale = a.softcap > 0 ? 1.0f : a.scale * kLog2E;
  float o[kDim / T::kPart][T::kPart / 2] = {};
  float m0 = kMasked, m1 = kMasked, l0 = 0, l1 = 0;

  int stage = 0;
  uint32_t phase = 0;
  for (int t0 = begin; t0 < end; t0 += T::kKeys) {
    const uint32_t k_at = stage_at(stage), v_at = k_at + T::kKvBytes;
    __syncthreads();  // the other stage has been read
    if (threadIdx.x < 32 && t0 + T::kKeys < end) {
      fetch.copy(a, k_map, v_map, kv_head, t0 + T::kKeys, stage_at(stage ^ 1), barrier_of(stage ^ 1));
      fetch.find(a, table, t0 + 2 * T::kKeys, end);
    }
    wait_barrier(barrier_of(stage), phase);
    phase ^= static_cast<uint32_t>(stage);
    stage ^= 1;
    if (t0 < seen || t0 + T::kKeys > end) {  // nothing is known of the memory there: zero times a NaN is a NaN
      clear_values<kDim>(v_at, seen - t0, end - t0);
      publish_shared();
      __syncthreads();
    }
    if (t0 > last || (a.window > 0 && t0 + T::kKeys <= first - a.window + 1)) continue;
    float s[32];
    warpgroup_arrive();
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      const uint32_t column = static_cast<uint32_t>(c % 4 * 32);
      warpgroup_mma(s, along_k(q_at + static_cast<uint32_t>((c / 4 * T::kRows + half) * 128) + column),
                    along_k(k_at + static_cast<uint32_t>(c / 4 * T::kKeys * 128) + column), c > 0);
    }
    warpgroup_commit();
    warpgroup_wait<0>(s);

    if (a.softcap > 0) {
#pragma unroll
      for (float& v : s) v = a.softcap * tanhf(v * a.scale / a.softcap) * kLog2E;
    }
    if (t0 + T::kKeys > first + 1 || (a.window > 0 && t0 <= last - a.window)) {
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int t = t0 + i / 4 * 8 + lane % 4 * 2 + i % 2;
        const int position = i % 4 < 2 ? position0 : position1;
        if (t > position || (a.window > 0 && t <= position - a.window)) s[i] = kMasked;
      }
    }
    float top0 = m0, top1 = m1;
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
      top0 = fmaxf(top0, fmaxf(s[i], s[i + 1]));
      top1 = fmaxf(top1, fmaxf(s[i + 2], s[i + 3]));
    }
#pragma unroll
    for (int x = 1; x <= 2; x <<= 1) {
      top0 = fmaxf(top0, __shfl_xor_sync(~0u, top0, x));
      top1 = fmaxf(top1, __shfl_xor_sync(~0u, top1, x));
    }
    const float keep0 = exp2_fast((m0 - top0) * scale), keep1 = exp2_fast((m1 - top1) * scale);
    m0 = top0;
    m1 = top1;
    l0 *= keep0;
    l1 *= keep1;
    // A row that has met no key yet keeps weights of zero, not exp(0).
    const float base0 = m0 == kMasked ? 0.0f : m0 * scale, base1 = m1 == kMasked ? 0.0f : m1 * scale;
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
      s[i] = exp2_fast(s[i] * scale - base0);
      s[i + 1] = exp2_fast(s[i + 1] * scale - base0);
      s[i + 2] = exp2_fast(s[i + 2] * scale - base1);
      s[i + 3] = exp2_fast(s[i + 3] * scale - base1);
      l0 += s[i] + s[i + 1];
      l1 += s[i + 2] + s[i + 3];
    }
#pragma unroll
    for (auto& part : o) {
#pragma unroll
      for (int i = 0; i < T::kPart / 2; i += 4) {
        part[i] *= keep0;
        part[i + 1] *= keep0;
        part[i + 2] *= keep1;
        part[i + 3] *= keep1;
      }
    }
    uint32_t p[T::kKeys / 16][4];
#pragma unroll
    for (int j = 0; j < T::kKeys / 16; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) p[j][i] = pack_bf16(s[8 * j + 2 * i], s[8 * j + 2 * i + 1]);
    }
    warpgroup_arrive();
#pragma unroll
    for (int j = 0; j < T::kKeys / 16; ++j) {
#pragma unroll
      for (int n = 0; n < kDim / T::kPart; ++n) {
        const uint32_t panel = v_at + static_cast<uint32_t>((n * T::kPart / 64 * T::kKeys + j * 16) * 128);
        warpgroup_mma(o[n], p[j], across_k(panel, T::kKeys * 128));
      }
    }
    warpgroup_commit();
#pragma unroll
    for (auto& part : o) warpgroup_wait<0>(part);
  }

#pragma unroll
  for (int x = 1; x <= 2; x <<= 1) {
    l0 += __shfl_xor_sync(~0u, l0, x);
    l1 += __shfl_xor_sync(~0u, l1, x);
  }
  const float inverse0 = 1.0f / l0, inverse1 = 1.0f / l1;
  auto* out = static_cast<__nv_bfloat16*>(a.out.data) + head * a.head_dim;
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
    const int d = n * 8 + lane % 4 * 2;
    const float* v = &o[n * 8 / T::kPart][n * 8 % T::kPart / 2];
    if (d >= a.head_dim) continue;
    if (r0 < rows) {
      *reinterpret_cast<uint32_t*>(out + (row0 + r0) * a.out.stride + d) = pack_bf16(v[0] * inverse0, v[1] * inverse0);
    }
    if (r1 < rows) {
      *reinterpret_cast<uint32_t*>(out + (row0 + r1) * a.out.stride + d) = pack_bf16(v[2] * inverse1, v[3] * inverse1);
    }
  }
}

// Keys or values of a layer: [pages, kv_heads, tokens of a page, dimensions], copied in swizzled panels.
CUtensorMap cache_map(const Tensor& t) {
  const int64_t sizes[] = {t.shape[3], t.shape[1], t.shape[2], t.shape[0]};
  const int64_t strides[] = {t.strides[1], t.strides[2], t.strides[0]}, box[] = {64, kBoxKeys, 1, 1};
  return tensor_map(t.data, sizes, strides, box);
}

template <int kDim>
void run(cudaStream_t stream, const TilesArgs& a, const KvView& kv, int64_t heads, int64_t rows) {
  using T = Tile<kDim>;
  static const cudaError_t raised =
      cudaFuncSetAttribute(attention_tiles_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, T::kSharedBytes);
  check(raised, "reserve shared memory");
  const dim3 grid(static_cast<unsigned>(heads),
                  static_cast<unsigned>(rows / T::kRows + std::min<int64_t>(a.seqs, rows / a.least_rows)));
  launch("attend many rows", attention_tiles_kernel<kDim>, grid, dim3(T::kThreads), T::kSharedBytes, stream, a,
         cache_map(kv.k), cache_map(kv.v));
}

}  // namespace

bool tiles_attention_supports(const AttnArgs& args, const Tensor& q, const KvView& kv) {
  const auto fits = [](const Tensor& t) {
    return t.dtype == DType::kBF16 && t.shape[1] % kBoxKeys == 0 && t.strides[0] % 8 == 0 && t.strides[1] % 8 == 0 &&
           t.strides[2] % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
  };
  return args.shape.head_dim % 8 == 0 && args.shape.head_dim <= 256 && q.dtype == DType::kBF16 && fits(kv.k) &&
         fits(kv.v);
}

void attention_tiles(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                     const KvView& kv, const Tensor& out, int least_rows) {
  const AttnShape& s = args.shape;
  const Paged cache = paged(kv, input);
  const TilesArgs a{mat(q),
                    mat(out),
                    cache.table,
                    cache.table_stride,
                    cache.block,
                    static_cast<const int*>(input.positions.data),
                    static_cast<const int*>(input.q_start.data),
                    static_cast<int>(input.seqs),
                    least_rows,
                    args.scale,
                    args.softcap,
                    static_cast<int>(args.window),
                    static_cast<int>(s.head_dim),
                    static_cast<int>(s.heads / s.kv_heads)};
  if (s.head_dim <= 64) return run<64>(stream, a, kv, s.heads, q.shape[0]);
  if (s.head_dim <= 128) return run<128>(stream, a, kv, s.heads, q.shape[0]);
  run<256>(stream, a, kv, s.heads, q.shape[0]);
}

}  // namespace baize::cuda
