// Attention for many rows a sequence (prefill), bf16, on the matrix units: FlashAttention-2 (Dao 2023) over the paged
// cache. A block takes a tile of rows of one sequence and one query head; keys and values stream through two stages of
// shared memory. 16-byte chunks of a row are swizzled so that matrix loads meet no bank twice.
#include <algorithm>
#include <cfloat>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"

namespace baize::cuda {

namespace {

constexpr float kLog2E = 1.4426950408889634f;

struct TilesArgs {
  Mat q, out;
  Paged kv;
  const int* positions;
  const int* q_start;
  int seqs;
  float scale, softcap;
  int window;
  int head_dim, group;
};

template <int kDim>
struct Tile {
  static constexpr int kWarps = kDim <= 128 ? 8 : 4;
  static constexpr int kRows = kWarps * 16;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kChunks = kDim / 8;  // 16-byte pieces of a row
  static constexpr int kKvBytes = kKeys * kDim * 2;
  static constexpr size_t kSharedBytes = static_cast<size_t>(kRows) * kDim * 2 + 4 * kKvBytes;
};

__device__ __forceinline__ void copy_async(uint32_t shared, const void* global, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(inside ? 16 : 0));
}
__device__ __forceinline__ void commit_async() { asm volatile("cp.async.commit_group;"); }
__device__ __forceinline__ void wait_async() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }

__device__ __forceinline__ void load_matrix(uint32_t (&r)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared));
}
__device__ __forceinline__ void load_matrix_transposed(uint32_t (&r)[4], uint32_t shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared));
}
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Byte offset of chunk `c` of row `r` in a swizzled tile.
template <int kDim>
__device__ __forceinline__ uint32_t at(int r, int c) {
  return static_cast<uint32_t>(r * kDim * 2 + (c ^ (r & 7)) * 16);
}

// Copies keys [t0, t0 + kKeys) of K and V; beyond `end`: zeros.
template <int kDim>
__device__ __forceinline__ void fetch_kv(const TilesArgs& a, const int* table, int kv_head, int t0, int end,
                                         uint32_t k_to, uint32_t v_to) {
  using T = Tile<kDim>;
#pragma unroll
  for (int i = threadIdx.x; i < T::kKeys * T::kChunks; i += T::kThreads) {
    const int r = i / T::kChunks, c = i % T::kChunks;
    const int t = t0 + r;
    const bool inside = t < end && c * 8 < a.head_dim;
    const int64_t page = inside ? table[t / a.kv.block] : 0;
    const int64_t slot = inside ? t % a.kv.block : 0;
    const int d = inside ? c * 8 : 0;
    const auto* k = static_cast<const __nv_bfloat16*>(a.kv.k);
    const auto* v = static_cast<const __nv_bfloat16*>(a.kv.v);
    copy_async(k_to + at<kDim>(r, c), k + page * a.kv.k_page + slot * a.kv.k_token + kv_head * a.kv.k_head + d, inside);
    copy_async(v_to + at<kDim>(r, c), v + page * a.kv.v_page + slot * a.kv.v_token + kv_head * a.kv.v_head + d, inside);
  }
}

template <int kDim>
__global__ void __launch_bounds__(Tile<kDim>::kThreads, 1) attention_tiles_kernel(const __grid_constant__ TilesArgs a) {
  using T = Tile<kDim>;
  extern __shared__ __align__(128) uint8_t memory[];
  pdl_launch();
  pdl_wait();
  // Which sequence, and which of its tiles; the last tiles, which see the most keys, start first.
  int tile = static_cast<int>(gridDim.y - 1 - blockIdx.y), seq = 0;
  for (; seq < a.seqs; ++seq) {
    const int tiles = (a.q_start[seq + 1] - a.q_start[seq] + T::kRows - 1) / T::kRows;
    if (tile < tiles) break;
    tile -= tiles;
  }
  if (seq >= a.seqs) return;
  const int row0 = a.q_start[seq] + tile * T::kRows;
  const int rows = min(T::kRows, a.q_start[seq + 1] - row0);
  const int head = blockIdx.x, kv_head = head / a.group;
  const int* table = a.kv.table + static_cast<int64_t>(seq) * a.kv.table_stride;
  const int first_position = a.positions[row0], last_position = a.positions[row0 + rows - 1];
  const int end = last_position + 1;
  const int begin = (a.window > 0 ? max(0, first_position - a.window + 1) : 0) / T::kKeys * T::kKeys;

  const uint32_t q_at = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t kv_at = q_at + T::kRows * kDim * 2;
  const auto k_stage = [&](int s) { return kv_at + static_cast<uint32_t>(s) * 2 * T::kKvBytes; };
  for (int i = threadIdx.x; i < T::kRows * T::kChunks; i += T::kThreads) {
    const int r = i / T::kChunks, c = i % T::kChunks;
    const bool inside = r < rows && c * 8 < a.head_dim;
    const auto* q = static_cast<const __nv_bfloat16*>(a.q.data);
    copy_async(q_at + at<kDim>(r, c),
               inside ? q + static_cast<int64_t>(row0 + r) * a.q.stride + head * a.head_dim + c * 8 : q, inside);
  }
  fetch_kv<kDim>(a, table, kv_head, begin, end, k_stage(0), k_stage(0) + T::kKvBytes);
  commit_async();

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int r0 = warp * 16 + lane / 4, r1 = r0 + 8;
  const int position0 = r0 < rows ? a.positions[row0 + r0] : -1;
  const int position1 = r1 < rows ? a.positions[row0 + r1] : -1;
  const float scale = a.softcap > 0 ? a.scale : a.scale * kLog2E;
  float o[kDim / 8][4] = {};
  float m0 = -FLT_MAX, m1 = -FLT_MAX, l0 = 0, l1 = 0;

  int stage = 0;
  for (int t0 = begin; t0 < end; t0 += T::kKeys, stage ^= 1) {
    wait_async();
    __syncthreads();
    if (t0 + T::kKeys < end) {
      fetch_kv<kDim>(a, table, kv_head, t0 + T::kKeys, end, k_stage(stage ^ 1), k_stage(stage ^ 1) + T::kKvBytes);
      commit_async();
    }
    const uint32_t k_at = k_stage(stage), v_at = k_at + T::kKvBytes;
    float s[T::kKeys / 8][4] = {};
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      uint32_t qf[4];
      load_matrix(qf, q_at + at<kDim>(warp * 16 + (lane & 15), c * 2 + (lane >> 4)));
#pragma unroll
      for (int n = 0; n < T::kKeys / 16; ++n) {
        uint32_t kf[4];
        load_matrix(kf, k_at + at<kDim>(n * 16 + (lane & 7) + (lane >> 4 & 1) * 8, c * 2 + (lane >> 3 & 1)));
        mma(s[2 * n], qf, kf[0], kf[1]);
        mma(s[2 * n + 1], qf, kf[2], kf[3]);
      }
    }
    const bool masked = t0 + T::kKeys > first_position + 1 || (a.window > 0 && t0 <= last_position - a.window);
    float top0 = m0, top1 = m1;
#pragma unroll
    for (int n = 0; n < T::kKeys / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        float v = s[n][e] * scale;
        if (a.softcap > 0) v = a.softcap * tanhf(v / a.softcap) * kLog2E;
        if (masked) {
          const int t = t0 + n * 8 + lane % 4 * 2 + e % 2;
          const int position = e < 2 ? position0 : position1;
          if (t > position || (a.window > 0 && t <= position - a.window)) v = -FLT_MAX;
        }
        s[n][e] = v;
        if (e < 2) {
          top0 = fmaxf(top0, v);
        } else {
          top1 = fmaxf(top1, v);
        }
      }
    }
#pragma unroll
    for (int x = 1; x <= 2; x <<= 1) {
      top0 = fmaxf(top0, __shfl_xor_sync(~0u, top0, x));
      top1 = fmaxf(top1, __shfl_xor_sync(~0u, top1, x));
    }
    const float keep0 = exp2f(m0 - top0), keep1 = exp2f(m1 - top1);  // 1 where both are still -FLT_MAX
    m0 = top0;
    m1 = top1;
    l0 *= keep0;
    l1 *= keep1;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      o[n][0] *= keep0;
      o[n][1] *= keep0;
      o[n][2] *= keep1;
      o[n][3] *= keep1;
    }
    // A row that has met no key yet keeps weights of zero, not exp(0).
    const float base0 = m0 == -FLT_MAX ? 0.0f : m0, base1 = m1 == -FLT_MAX ? 0.0f : m1;
#pragma unroll
    for (int n = 0; n < T::kKeys / 8; ++n) {
      s[n][0] = exp2f(s[n][0] - base0);
      s[n][1] = exp2f(s[n][1] - base0);
      s[n][2] = exp2f(s[n][2] - base1);
      s[n][3] = exp2f(s[n][3] - base1);
      l0 += s[n][0] + s[n][1];
      l1 += s[n][2] + s[n][3];
    }
#pragma unroll
    for (int j = 0; j < T::kKeys / 16; ++j) {
      const uint32_t p[4] = {pack_bf16(s[2 * j][0], s[2 * j][1]), pack_bf16(s[2 * j][2], s[2 * j][3]),
                             pack_bf16(s[2 * j + 1][0], s[2 * j + 1][1]), pack_bf16(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        uint32_t vf[4];
        load_matrix_transposed(vf, v_at + at<kDim>(j * 16 + (lane & 7) + (lane >> 3 & 1) * 8, n * 2 + (lane >> 4)));
        mma(o[2 * n], p, vf[0], vf[1]);
        mma(o[2 * n + 1], p, vf[2], vf[3]);
      }
    }
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
    if (d >= a.head_dim) continue;
    if (r0 < rows) {
      *reinterpret_cast<uint32_t*>(out + (row0 + r0) * a.out.stride + d) =
          pack_bf16(o[n][0] * inverse0, o[n][1] * inverse0);
    }
    if (r1 < rows) {
      *reinterpret_cast<uint32_t*>(out + (row0 + r1) * a.out.stride + d) =
          pack_bf16(o[n][2] * inverse1, o[n][3] * inverse1);
    }
  }
}

template <int kDim>
void run(cudaStream_t stream, const TilesArgs& a, int64_t heads, int64_t rows) {
  using T = Tile<kDim>;
  static const cudaError_t raised = cudaFuncSetAttribute(
      attention_tiles_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(T::kSharedBytes));
  check(raised, "reserve shared memory");
  const dim3 grid(static_cast<unsigned>(heads), static_cast<unsigned>(rows / T::kRows + a.seqs));
  launch("attend many rows", attention_tiles_kernel<kDim>, grid, dim3(T::kThreads), T::kSharedBytes, stream, a);
}

}  // namespace

bool tiles_attention_supports(const AttnArgs& args, const Tensor& q, const KvView& kv) {
  const auto fits = [](const Tensor& t) {
    return t.dtype == DType::kBF16 && t.strides[0] % 8 == 0 && t.strides[1] % 8 == 0 && t.strides[2] % 8 == 0;
  };
  return args.shape.head_dim % 8 == 0 && args.shape.head_dim <= 256 && q.dtype == DType::kBF16 && fits(kv.k) &&
         fits(kv.v);
}

void attention_tiles(cudaStream_t stream, const AttnArgs& args, const StepInput& input, const Tensor& q,
                     const KvView& kv, const Tensor& out) {
  const AttnShape& s = args.shape;
  const TilesArgs a{mat(q),
                    mat(out),
                    paged(kv, input),
                    static_cast<const int*>(input.positions.data),
                    static_cast<const int*>(input.q_start.data),
                    static_cast<int>(input.seqs),
                    args.scale,
                    args.softcap,
                    static_cast<int>(args.window),
                    static_cast<int>(s.head_dim),
                    static_cast<int>(s.heads / s.kv_heads)};
  if (s.head_dim <= 64) return run<64>(stream, a, s.heads, q.shape[0]);
  if (s.head_dim <= 128) return run<128>(stream, a, s.heads, q.shape[0]);
  run<256>(stream, a, s.heads, q.shape[0]);
}

}  // namespace baize::cuda
