// For few rows, all that lies between the attention of a layer and its experts in one kernel: the sum into the residual
// and its norm, the router's product, the choice of experts and the grouping of their pairs. Each block makes the
// normed rows for itself and multiplies them by eight of the router's rows; the last to finish chooses for all.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/group_pairs.cuh"
#include "backend/cuda/kernels/route.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kMostRows = 8;
constexpr int kFetched = 8;  // pieces of a weight row that a lane asks for before its predecessors are done
constexpr int64_t kSharedBytes = 96 << 10;

struct RouterKernelArgs {
  Mat residual, delta, normed;
  const float* norm_weight;
  float eps;
  const __nv_bfloat16* w;  // [experts, k]
  float alpha;
  RouteKernelArgs route;
  GroupArgs group;
  int* arrived;
};

// residual + delta, eight columns.
__device__ __forceinline__ void load_sum(const RouterKernelArgs& a, int64_t row, int i, float (&v)[8]) {
  float r[8];
  load8(a.residual.data, DType::kF32, row * a.residual.stride + i, r);
  load8(a.delta.data, DType::kBF16, row * a.delta.stride + i, v);
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] += r[j];
}

// The normed rows, rounded, as f32 in shared memory. Several warps share a row, or each has its own.
__device__ __forceinline__ void norm_rows(const RouterKernelArgs& a, int rows, float* x, float* partial) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, k = a.normed.cols;
  const int each = rows == 1 ? kWarps : rows == 2 ? kWarps / 2 : rows <= 4 ? kWarps / 4 : 1;  // warps of a row
  const int row = warp / each, first = (warp % each * 32 + lane) * 8;
  float squares = 0;
  if (row < rows) {
#pragma unroll 4
    for (int i = first; i < k; i += each * 256) {
      float v[8];
      load_sum(a, row, i, v);
#pragma unroll
      for (int j = 0; j < 8; ++j) squares += v[j] * v[j];
      store8(x + row * k, DType::kF32, i, v);
    }
  }
  squares = warp_sum(squares);
  if (lane == 0) partial[warp] = squares;
  __syncthreads();
  if (row < rows) {
    float total = 0;
    for (int i = 0; i < each; ++i) total += partial[row * each + i];
    const float scale = rsqrtf(total / static_cast<float>(k) + a.eps);
#pragma unroll 4
    for (int i = first; i < k; i += each * 256) {
      float v[8], w[8];
      load8(x + row * k, DType::kF32, i, v);
      load8(a.norm_weight, DType::kF32, i, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = __bfloat162float(__float2bfloat16_rn(w[j] * (v[j] * scale)));
      store8(x + row * k, DType::kF32, i, v);
      if (row % static_cast<int>(gridDim.x) == static_cast<int>(blockIdx.x)) {
        store8(a.normed.data, DType::kBF16, row * a.normed.stride + i, v);
      }
    }
  }
  __syncthreads();
}

// By the last block, when all have read it; `index` of `threads` threads.
__device__ __forceinline__ void write_residual(const RouterKernelArgs& a, int rows, int index, int threads) {
  const int chunks = a.normed.cols / 8;
#pragma unroll 4
  for (int i = index; i < rows * chunks; i += threads) {
    const int row = i / chunks, column = i % chunks * 8;
    float v[8];
    load_sum(a, row, column, v);
    store8(a.residual.data, DType::kF32, row * a.residual.stride + column, v);
  }
}

// The logits of one expert for all rows.
__device__ __forceinline__ void multiply_rows(const RouterKernelArgs& a, int rows, int expert, const float* x,
                                              const uint4 (&fetched)[kFetched]) {
  const int lane = threadIdx.x % 32, k = a.normed.cols;
  const __nv_bfloat16* w = a.w + static_cast<int64_t>(expert) * k;
  float sum[kMostRows] = {};
  const auto add = [&](const uint4& raw, int i) {
    float v[8];
    unpack_bf16(raw, v);
#pragma unroll
    for (int r = 0; r < kMostRows; ++r) {
      if (r >= rows) break;
      float in[8];
      load8(x + r * k, DType::kF32, i, in);
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[r] += v[j] * in[j];
    }
  };
#pragma unroll
  for (int c = 0; c < kFetched; ++c) {
    const int i = c * 256 + lane * 8;
    if (i < k) add(fetched[c], i);
  }
  for (int i = kFetched * 256 + lane * 8; i < k; i += 256) add(load_stream(w + i), i);
#pragma unroll
  for (int r = 0; r < kMostRows; ++r) {
    if (r >= rows) break;
    const float total = warp_sum(sum[r]);
    if (lane == 0) {
      store1(a.route.logits.data, DType::kBF16, r * a.route.logits.stride + expert, a.alpha * total);
    }
  }
}

__global__ void __launch_bounds__(kThreads) router_kernel(const __grid_constant__ RouterKernelArgs a) {
  extern __shared__ __align__(16) float memory[];
  __shared__ float partial[kWarps];
  __shared__ int is_last;
  pdl_launch();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rows = a.normed.rows, k = a.normed.cols, experts = a.route.logits.cols;
  const int expert = static_cast<int>(blockIdx.x) * kWarps + warp;
  uint4 fetched[kFetched];
#pragma unroll
  for (int c = 0; c < kFetched; ++c) {
    const int i = c * 256 + lane * 8;
    if (expert < experts && i < k) fetched[c] = load_stream(a.w + static_cast<int64_t>(expert) * k + i);
  }
  pdl_wait();
  float* x = memory;
  norm_rows(a, rows, x, partial);
  if (expert < experts) multiply_rows(a, rows, expert, x, fetched);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(a.arrived, 1) == static_cast<int>(gridDim.x) - 1 ? 1 : 0;
    __threadfence();
  }
  __syncthreads();
  if (is_last == 0) return;
  if (threadIdx.x == 0) *a.arrived = 0;
  if (warp < rows) {
    float* scores = memory + rows * k + warp * (2 * experts + a.route.groups);
    float* choice = scores + experts;
    const auto* logits = static_cast<const unsigned short*>(a.route.logits.data) + warp * a.route.logits.stride;
    for (int e = lane; e < experts; e += 32) {
      scores[e] = choice[e] = __uint_as_float(static_cast<uint32_t>(__ldcg(logits + e)) << 16);
    }
    __syncwarp();
    choose_experts(a.route, warp, lane, scores, choice);
  }
  if (warp >= rows) write_residual(a, rows, static_cast<int>(threadIdx.x) - rows * 32, kThreads - rows * 32);
  if (rows == kWarps) write_residual(a, rows, static_cast<int>(threadIdx.x), kThreads);
  __syncthreads();
  if (a.group.order == nullptr) return;
  int* shared = reinterpret_cast<int*>(memory + rows * k);
  a.group.pairs <= kFewPairs ? group_few(a.group, shared) : group_in_block(a.group, shared);
}

int64_t shared_bytes(int64_t rows, int64_t k, int64_t experts, int64_t groups) {
  return (rows * k + std::max({rows * (2 * experts + groups), 3 * experts, int64_t{2 * kFewPairs}})) *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

bool router_supports(const RouterCall& call, const RouteArgs& args, const Tensor& logits) {
  const Mat residual = mat(call.residual), delta = mat(call.delta), normed = mat(call.normed);
  const Linear& router = *call.router;
  return normed.rows <= kMostRows && wide(residual) && wide(delta) && wide(normed) && delta.dtype == DType::kBF16 &&
         residual.dtype == DType::kF32 && normed.dtype == DType::kBF16 && logits.dtype == DType::kBF16 &&
         normed.data != delta.data && router.shape.format.scheme == Scheme::kPlain &&
         router.shape.format.elem == DType::kBF16 && !router.bias.present() &&
         reinterpret_cast<uintptr_t>(router.w.data) % 16 == 0 && args.top_k <= kMostChosen &&
         shared_bytes(normed.rows, normed.cols, logits.shape[1], args.groups) <= kSharedBytes;
}

void router(cudaStream_t stream, const RouterCall& call, const RouteArgs& args, const StepInput& input,
            const Tensor& logits, const Routing& routing) {
  static const cudaError_t raised =
      cudaFuncSetAttribute(router_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedBytes));
  check(raised, "reserve shared memory");
  RouterKernelArgs a{mat(call.residual),
                     mat(call.delta),
                     mat(call.normed),
                     static_cast<const float*>(call.norm.weight.data),
                     call.norm.eps,
                     static_cast<const __nv_bfloat16*>(call.router->w.data),
                     call.router->alpha,
                     route_args(args, input, logits, routing),
                     {},
                     call.arrived};
  if (call.groups.pairs > 0) a.group = group_args(call.groups, routing.ids);
  const int experts = a.route.logits.cols;
  launch("route, from the attention's sum on", router_kernel,
         dim3(static_cast<unsigned>((experts + kWarps - 1) / kWarps)), dim3(kThreads),
         static_cast<size_t>(shared_bytes(a.normed.rows, a.normed.cols, experts, a.route.groups)), stream, a);
}

}  // namespace baize::cuda
