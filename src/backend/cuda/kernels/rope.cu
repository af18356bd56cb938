// Query and key norms, rotary embedding, and the store of keys and values in the paged cache, in one pass over qkv.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"
#include "backend/cuda/kernels/rope.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 1024;

struct QkvKernelArgs {
  Mat qkv, q;
  Paged kv;
  RopeArgs rope;
  NormArgs q_norm, k_norm;
  const int* positions;
  const int* row_seq;
  const int* kv_len;
  int heads, kv_heads, head_dim;
};

// One warp a head of a row: query heads, then key heads, then value heads.
__global__ void __launch_bounds__(kWarps * 32) qkv_kernel(const __grid_constant__ QkvKernelArgs a) {
  extern __shared__ float memory[];
  pdl_launch();
  const int lane = threadIdx.x % 32;
  const int head = blockIdx.x * kWarps + threadIdx.x / 32;
  if (head >= a.heads + 2 * a.kv_heads) return;
  float* x = memory + threadIdx.x / 32 * a.head_dim;
  pdl_wait();
  const int64_t row = blockIdx.y;
  const int position = a.positions[row];
  const int seq = a.row_seq[row];
  const int64_t from = row * a.qkv.stride + static_cast<int64_t>(head) * a.head_dim;
  float sum = 0;
  for (int i = lane; i < a.head_dim; i += 32) {
    x[i] = load1(a.qkv.data, a.qkv.dtype, from + i);
    sum += x[i] * x[i];
  }
  const bool is_query = head < a.heads;
  const bool is_value = head >= a.heads + a.kv_heads;
  if (!is_value) {
    norm_and_rotate(x, sum, lane, a.head_dim, is_query ? a.q_norm : a.k_norm, a.rope, position, a.kv_len[seq]);
  }
  __syncwarp();
  void* to = a.q.data;
  DType type = a.q.dtype;
  int64_t at = row * a.q.stride + static_cast<int64_t>(head) * a.head_dim;
  if (!is_query) {
    const Paged& kv = a.kv;
    const int64_t page = kv.table[static_cast<int64_t>(seq) * kv.table_stride + position / kv.block];
    if (page < 0) return;  // slid out of the window already: never read
    const int64_t slot = position % kv.block;
    type = kv.dtype;
    if (is_value) {
      to = kv.v;
      at = page * kv.v_page + slot * kv.v_token + (head - a.heads - a.kv_heads) * kv.v_head;
    } else {
      to = kv.k;
      at = page * kv.k_page + slot * kv.k_token + (head - a.heads) * kv.k_head;
    }
  }
  for (int i = lane; i < a.head_dim; i += 32) store1(to, type, at + i, x[i]);
}

}  // namespace

void qk_norm_rope_store(cudaStream_t stream, const QkvArgs& args, const StepInput& input, const Tensor& qkv,
                        const KvView& kv, const Tensor& q) {
  const AttnShape& s = args.shape;
  if (s.head_dim > kMaxHeadDim) unsupported("the CUDA backend has no attention for heads of more than 512 dimensions");
  QkvKernelArgs a{mat(qkv), mat(q), paged(kv, input), {}, {}, {}, nullptr, nullptr, nullptr, 0, 0, 0};
  a.rope = rope_args(args.rope);
  a.q_norm = norm_args(args.q_norm);
  a.k_norm = norm_args(args.k_norm);
  a.positions = static_cast<const int*>(input.positions.data);
  a.row_seq = static_cast<const int*>(input.row_seq.data);
  a.kv_len = static_cast<const int*>(input.kv_len.data);
  a.heads = static_cast<int>(s.heads);
  a.kv_heads = static_cast<int>(s.kv_heads);
  a.head_dim = static_cast<int>(s.head_dim);
  const unsigned heads = static_cast<unsigned>(s.heads + 2 * s.kv_heads);
  launch("store keys and values", qkv_kernel, dim3((heads + kWarps - 1) / kWarps, static_cast<unsigned>(qkv.shape[0])),
         dim3(kWarps * 32), static_cast<size_t>(kWarps * s.head_dim) * sizeof(float), stream, a);
}

}  // namespace baize::cuda
