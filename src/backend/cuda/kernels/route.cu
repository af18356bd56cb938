// The choice of each row's experts from its router's logits: one warp a row.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/route.cuh"

namespace baize::cuda {

namespace {

constexpr int kWarps = 4;
constexpr size_t kSharedBytes = 48 << 10;

__global__ void __launch_bounds__(kWarps * 32) route_kernel(const __grid_constant__ RouteKernelArgs a) {
  extern __shared__ float memory[];
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (row >= a.logits.rows) return;
  const int experts = a.logits.cols;
  float* scores = memory + warp * (2 * experts + a.groups);
  float* choice = scores + experts;
  for (int e = lane; e < experts; e += 32) {
    scores[e] = choice[e] = load1(a.logits.data, a.logits.dtype, row * a.logits.stride + e);
  }
  __syncwarp();
  choose_experts(a, row, lane, scores, choice);
}

}  // namespace

void route(cudaStream_t stream, const RouteArgs& args, const StepInput& input, const Tensor& logits,
           const Routing& routing) {
  if (logits.shape[0] == 0) return;
  if (args.top_k > kMostChosen) unsupported("the CUDA backend chooses at most 32 experts a token");
  const RouteKernelArgs a = route_args(args, input, logits, routing);
  const size_t bytes = kWarps * static_cast<size_t>(route_floats(a)) * sizeof(float);
  if (bytes > kSharedBytes) unsupported("the CUDA backend routes to at most 1,024 experts");
  launch("route", route_kernel, dim3(static_cast<unsigned>((a.logits.rows + kWarps - 1) / kWarps)), dim3(kWarps * 32),
         bytes, stream, a);
}

}  // namespace baize::cuda
