// A sparse indexer's choice of positions: scores of all that a row may see, then the k-th highest found digit by digit
// (radix select), and what lies above it written in ascending order. Definition: ops/host_attention.cc.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/kernels.h"
#include "backend/cuda/kernels/paged.h"

namespace baize::cuda {

namespace {

constexpr int kScoreWarps = 8;
constexpr int kKeysOfBlock = 64;
constexpr size_t kMostShared = size_t{200} << 10;

struct ScoreArgs {
  Mat q, weights;
  int64_t q_head;
  Paged keys;
  const int* positions;
  const int* row_seq;
  int64_t row0;  // the rows' scores begin with this row's
  float* scores;
  int64_t stride;  // of scores
  int heads, head_dim;
};

// One warp a key; blockIdx.y: stretches of keys.
__global__ void __launch_bounds__(kScoreWarps * 32) score_kernel(const __grid_constant__ ScoreArgs a) {
  extern __shared__ float q[];  // [heads][head_dim]
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row = a.row0 + blockIdx.x;
  const int keys = a.positions[row] + 1;
  const int begin = static_cast<int>(blockIdx.y) * kKeysOfBlock;
  if (begin >= keys) return;
  for (int i = threadIdx.x; i < a.heads * a.head_dim; i += kScoreWarps * 32) {
    q[i] = load1(a.q.data, a.q.dtype, row * a.q.stride + i / a.head_dim * a.q_head + i % a.head_dim);
  }
  __syncthreads();
  const int* table = a.keys.table + static_cast<int64_t>(a.row_seq[row]) * a.keys.table_stride;
  for (int t = begin + warp; t < min(keys, begin + kKeysOfBlock); t += kScoreWarps) {
    const int64_t at = table[t / a.keys.block] * a.keys.k_page + t % a.keys.block * a.keys.k_token;
    float score = 0;
    for (int h = 0; h < a.heads; ++h) {
      float sum = 0;
      for (int d = lane; d < a.head_dim; d += 32) sum += q[h * a.head_dim + d] * load1(a.keys.k, a.keys.dtype, at + d);
      score += load1(a.weights.data, a.weights.dtype, row * a.weights.stride + h) * fmaxf(0.0f, warp_sum(sum));
    }
    if (lane == 0) a.scores[blockIdx.x * a.stride + t] = score;
  }
}

constexpr int kThreads = 1024, kWarps = kThreads / 32;

// Unsigned integers in the order of the scores.
__device__ __forceinline__ uint32_t ordered(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0f);  // one zero
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// How many threads before this one have `flag`; `all` becomes the block's. `sums`: kWarps integers.
__device__ __forceinline__ int count_before(bool flag, int* sums, int& all) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned votes = __ballot_sync(~0u, flag);
  if (lane == 0) sums[warp] = __popc(votes);
  __syncthreads();
  int before = __popc(votes & ((1u << lane) - 1));
  all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += sums[w];
    all += sums[w];
  }
  __syncthreads();
  return before;
}

// One block a row.
__global__ void __launch_bounds__(kThreads, 1)
    choose_kernel(const float* scores, int64_t stride, const int* positions, int64_t row0, int top_k, int* selected,
                  int64_t selected_row, int width) {
  __shared__ int histogram[256];
  __shared__ int sums[kWarps];
  __shared__ uint32_t found_digit;
  __shared__ int found_above;
  pdl_launch();
  pdl_wait();
  const int64_t row = row0 + blockIdx.x;
  const float* x = scores + blockIdx.x * stride;
  const int keys = positions[row] + 1;
  int* to = selected + row * selected_row;
  if (keys <= top_k) {  // all of them
    for (int i = threadIdx.x; i < width; i += kThreads) to[i] = i < keys ? i : -1;
    return;
  }
  // The value of the top_k-th, and how many of that value are wanted.
  uint32_t value = 0;
  int wanted = top_k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (threadIdx.x < 256) histogram[threadIdx.x] = 0;
    __syncthreads();
    const uint32_t mask = shift == 24 ? 0u : ~0u << (shift + 8);
    for (int t = threadIdx.x; t < keys; t += kThreads) {
      const uint32_t bits = ordered(x[t]);
      if ((bits & mask) == value) atomicAdd(&histogram[bits >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int above = 0, digit = 255;
      while (digit > 0 && above + histogram[digit] < wanted) above += histogram[digit--];
      found_digit = static_cast<uint32_t>(digit);
      found_above = above;
    }
    __syncthreads();
    value |= found_digit << shift;
    wanted -= found_above;
    __syncthreads();
  }
  int written = 0, equals = 0;
  for (int t0 = 0; t0 < keys; t0 += kThreads) {
    const int t = t0 + static_cast<int>(threadIdx.x);
    const uint32_t bits = t < keys ? ordered(x[t]) : 0;
    const bool equal = t < keys && bits == value;
    int all = 0;
    const int rank = equals + count_before(equal, sums, all);
    equals += all;
    const bool taken = t < keys && (bits > value || (equal && rank < wanted));
    const int at = written + count_before(taken, sums, all);
    written += all;
    if (taken) to[at] = t;
  }
  for (int i = written + static_cast<int>(threadIdx.x); i < width; i += kThreads) to[i] = -1;
}

}  // namespace

void select(cudaStream_t stream, const SelectArgs& args, const StepInput& input, const Tensor& q, const Tensor& weights,
            const KvView& keys, const Tensor& selected, const Tensor& scores) {
  const int64_t rows = q.shape[0], at_once = scores.shape[0], longest = scores.shape[1];
  ScoreArgs a{mat(q),
              mat(weights),
              q.strides[1],
              paged(keys, input),
              static_cast<const int*>(input.positions.data),
              static_cast<const int*>(input.row_seq.data),
              0,
              static_cast<float*>(scores.data),
              longest,
              static_cast<int>(args.heads),
              static_cast<int>(args.head_dim)};
  const size_t bytes = static_cast<size_t>(a.heads * a.head_dim) * sizeof(float);
  if (bytes > kMostShared) unsupported("the CUDA backend has no indexer of so many heads");
  if (bytes > (size_t{40} << 10)) {
    check(cudaFuncSetAttribute(score_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
          "prepare an indexer");
  }
  for (; a.row0 < rows; a.row0 += at_once) {
    const auto count = static_cast<unsigned>(std::min(at_once, rows - a.row0));
    const auto stretches = static_cast<unsigned>((longest + kKeysOfBlock - 1) / kKeysOfBlock);
    launch("score positions", score_kernel, dim3(count, stretches), dim3(kScoreWarps * 32), bytes, stream, a);
    launch("choose positions", choose_kernel, dim3(count), dim3(kThreads), 0, stream, a.scores, a.stride, a.positions,
           a.row0, static_cast<int>(args.top_k), static_cast<int*>(selected.data), selected.strides[0],
           static_cast<int>(selected.shape[1]));
  }
}

}  // namespace baize::cuda
