// Attention for few rows a sequence (decode), bf16, on the matrix units: the product of sixteen keys with up to eight
// query heads of their key head, S^T = K . Q^T and O^T = V^T . P^T, so that keys and values are read once for all of
// them. Every row is on its own, its keys cut into parts that run side by side; a warp takes every fourth slab of
// sixteen keys of a part, through its own ring in shared memory, and meets the other warps only at the end.
#include <cfloat>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/attention_rows.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace baize::cuda {

namespace {

constexpr int kSlab = 16;  // keys

template <int kDim>
struct Ring {
  static constexpr int kStages = kDim <= 64 ? 4 : 3;
  static constexpr int kChunks = kDim / 8;               // 16-byte pieces of a key
  static constexpr int kMatrixBytes = kSlab * kDim * 2;  // keys or values of a slab
  static constexpr int kStageBytes = 2 * kMatrixBytes;
  static constexpr int kWarpBytes = kStages * kStageBytes;
  static constexpr int kBytes = kRowsWarps * kWarpBytes;
  static_assert(kWarpBytes >= kHeadsOfBlock * kDim * 4, "the sums go where the ring was");
};

// Byte offset of chunk c of key r: swizzled so that matrix loads meet no bank twice.
template <int kDim>
__device__ __forceinline__ uint32_t at(int r, int c) {
  return static_cast<uint32_t>(r * kDim * 2 + (c ^ (r & 7)) * 16);
}

// Starts copying the slab at key t0, which lies in `page`, into `to`.
template <int kDim>
__device__ __forceinline__ void fetch_slab(const RowsArgs& a, int kv_head, int t0, const PartOfKeys& keys, int page,
                                           uint32_t to) {
  using R = Ring<kDim>;
  const int lane = threadIdx.x % 32;
  const int64_t slot = t0 % a.kv.block;
  const auto* k =
      static_cast<const __nv_bfloat16*>(a.kv.k) + kv_head * a.kv.k_head + page * a.kv.k_page + slot * a.kv.k_token;
  const auto* v =
      static_cast<const __nv_bfloat16*>(a.kv.v) + kv_head * a.kv.v_head + page * a.kv.v_page + slot * a.kv.v_token;
  const int k_token = static_cast<int>(a.kv.k_token), v_token = static_cast<int>(a.kv.v_token);
#pragma unroll
  for (int i = lane; i < kSlab * R::kChunks; i += 32) {
    const int r = i / R::kChunks, c = i % R::kChunks;
    const bool inside = t0 + r >= keys.begin && t0 + r < keys.end && c * 8 < a.head_dim;
    copy_async(to + at<kDim>(r, c), k + (inside ? r * k_token + c * 8 : 0), inside);
    copy_async(to + R::kMatrixBytes + at<kDim>(r, c), v + (inside ? r * v_token + c * 8 : 0), inside);
  }
}

template <int kDim>
__global__ void __launch_bounds__(kRowsWarps * 32) attention_heads_kernel(const __grid_constant__ RowsArgs a) {
  using R = Ring<kDim>;
  extern __shared__ __align__(128) uint8_t memory[];
  __shared__ float shared_m[kRowsWarps][kHeadsOfBlock], shared_l[kRowsWarps][kHeadsOfBlock];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  if (!is_mine(a, row)) return;
  const PartOfKeys keys = part_of_keys(a, row);
  if (static_cast<int>(blockIdx.z) >= keys.parts) return;
  const int chunks = (a.group + kHeadsOfBlock - 1) / kHeadsOfBlock;
  const int kv_head = static_cast<int>(blockIdx.y) / chunks;
  const int head0 = kv_head * a.group + static_cast<int>(blockIdx.y) % chunks * kHeadsOfBlock;
  const int heads = min(kHeadsOfBlock, (kv_head + 1) * a.group - head0);
  const int* table = a.kv.table + static_cast<int64_t>(a.row_seq[row]) * a.kv.table_stride;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t ring = shared_address(memory) + static_cast<uint32_t>(warp * R::kWarpBytes);

  // Slabs of this warp: t0, t0 + 64, ...; aligned, so that each lies in one page.
  constexpr int kStep = kRowsWarps * kSlab;
  const int t_first = keys.begin / kSlab * kSlab + warp * kSlab;
  const auto page_at = [&](int t0) { return t0 < keys.end ? table[t0 / a.kv.block] : 0; };
#pragma unroll
  for (int s = 0; s < R::kStages - 1; ++s) {
    const int t0 = t_first + s * kStep;
    if (t0 < keys.end) {
      fetch_slab<kDim>(a, kv_head, t0, keys, page_at(t0), ring + static_cast<uint32_t>(s * R::kStageBytes));
    }
    commit_async();
  }
  int next_page = page_at(t_first + (R::kStages - 1) * kStep);

  // Q^T as the right-hand matrix: lane / 4 is the head, lane % 4 the pair of dimensions.
  uint32_t q[kDim / 16][2];
  {
    const auto* from = static_cast<const __nv_bfloat16*>(a.q.data) + row * a.q.stride +
                       static_cast<int64_t>(head0 + lane / 4) * a.head_dim;
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = c * 16 + i * 8 + lane % 4 * 2;
        q[c][i] = lane / 4 < heads && d < a.head_dim ? *reinterpret_cast<const uint32_t*>(from + d) : 0;
      }
    }
  }

  const float scale = a.softcap > 0 ? a.scale : a.scale * kLog2E;
  float o[kDim / 16][4] = {};  // O^T: dimensions lane / 4 (+ 8), heads lane % 4 * 2 (+ 1)
  float m[2] = {-FLT_MAX, -FLT_MAX}, l[2] = {0, 0};
  int stage = 0;
  for (int t0 = t_first; t0 < keys.end; t0 += kStep) {
    wait_async<R::kStages - 2>();
    __syncwarp();  // the slab is there for all lanes, and all have read the slab before it
    {
      const int t = t0 + (R::kStages - 1) * kStep;
      const int to = stage == 0 ? R::kStages - 1 : stage - 1;
      if (t < keys.end) {
        fetch_slab<kDim>(a, kv_head, t, keys, next_page, ring + static_cast<uint32_t>(to * R::kStageBytes));
      }
      commit_async();
      next_page = page_at(t + kStep);
    }
    const uint32_t k_at = ring + static_cast<uint32_t>(stage * R::kStageBytes), v_at = k_at + R::kMatrixBytes;
    stage = stage + 1 == R::kStages ? 0 : stage + 1;

    float s[4] = {};  // S^T: keys lane / 4 (+ 8), heads lane % 4 * 2 (+ 1)
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      uint32_t kf[4];
      load_matrix(kf, k_at + at<kDim>((lane & 7) + (lane >> 3 & 1) * 8, c * 2 + (lane >> 4)));
      mma(s, kf, q[c][0], q[c][1]);
    }
    float top[2] = {m[0], m[1]};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[e] *= scale;
      if (a.softcap > 0) s[e] = a.softcap * tanhf(s[e] / a.softcap) * kLog2E;
      const int t = t0 + lane / 4 + e / 2 * 8;
      if (t < keys.begin || t >= keys.end) s[e] = -FLT_MAX;
      top[e % 2] = fmaxf(top[e % 2], s[e]);
    }
#pragma unroll
    for (int x = 4; x <= 16; x <<= 1) {
      top[0] = fmaxf(top[0], __shfl_xor_sync(~0u, top[0], x));
      top[1] = fmaxf(top[1], __shfl_xor_sync(~0u, top[1], x));
    }
    if (__any_sync(~0u, top[0] != m[0] || top[1] != m[1])) {
      const float keep[2] = {exp2f(m[0] - top[0]), exp2f(m[1] - top[1])};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        m[e] = top[e];
        l[e] *= keep[e];
      }
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) o[n][e] *= keep[e % 2];
      }
    }
    // A head that has met no key yet keeps weights of zero, not exp(0).
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[e] = exp2f(s[e] - (m[e % 2] == -FLT_MAX ? 0.0f : m[e % 2]));
      l[e % 2] += s[e];
    }
    const uint32_t p0 = transpose_matrix(pack_bf16(s[0], s[1])), p1 = transpose_matrix(pack_bf16(s[2], s[3]));
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t vf[4];
      load_matrix_transposed(vf, v_at + at<kDim>((lane & 7) + (lane >> 4) * 8, n * 2 + (lane >> 3 & 1)));
      mma(o[n], vf, p0, p1);
    }
  }
  wait_async<0>();
  __syncwarp();
  auto* acc = reinterpret_cast<float*>(memory + warp * R::kWarpBytes);
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int x = 4; x <= 16; x <<= 1) l[e] += __shfl_xor_sync(~0u, l[e], x);
    const int head = lane % 4 * 2 + e;
    if (lane < 4) {
      shared_m[warp][head] = m[e] == -FLT_MAX ? m[e] : m[e] / kLog2E;
      shared_l[warp][head] = l[e];
    }
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      acc[head * kDim + n * 16 + lane / 4] = o[n][e];
      acc[head * kDim + n * 16 + lane / 4 + 8] = o[n][e + 2];
    }
  }
  finish_row(a, row, head0, heads, keys.parts,
             {&shared_m[0][0], &shared_l[0][0], reinterpret_cast<const float*>(memory), kHeadsOfBlock, kDim,
              R::kWarpBytes / 4});
}

template <int kDim>
void run(cudaStream_t stream, const RowsArgs& a, dim3 grid) {
  static const cudaError_t raised = cudaFuncSetAttribute(
      attention_heads_kernel<kDim>, cudaFuncAttributeMaxDynamicSharedMemorySize, Ring<kDim>::kBytes);
  check(raised, "reserve shared memory");
  launch("attend", attention_heads_kernel<kDim>, grid, dim3(kRowsWarps * 32), Ring<kDim>::kBytes, stream, a);
}

}  // namespace

bool heads_attention_supports(const AttnShape& shape, const KvView& kv) {
  return kv.k.dtype == DType::kBF16 && shape.head_dim <= 256 && kv.k.shape[1] % kSlab == 0;
}

int heads_attention_blocks(int64_t head_dim) { return head_dim <= 64 ? 3 : head_dim <= 128 ? 2 : 1; }

void attention_heads(cudaStream_t stream, const RowsArgs& a) {
  const dim3 grid(static_cast<unsigned>(a.q.rows),
                  static_cast<unsigned>(a.kv_heads * ((a.group + kHeadsOfBlock - 1) / kHeadsOfBlock)),
                  static_cast<unsigned>(a.splits));
  if (a.head_dim <= 64) return run<64>(stream, a, grid);
  if (a.head_dim <= 128) return run<128>(stream, a, grid);
  run<256>(stream, a, grid);
}

}  // namespace baize::cuda
