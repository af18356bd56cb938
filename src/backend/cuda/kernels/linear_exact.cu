// Products in f32 arithmetic on any stored weights: what tests compare with. A result is the same whatever the number
// of rows beside it, because every sum runs over k in one order.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

constexpr int kRows = 32, kCols = 64, kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    exact_kernel(Weights w, Mat x, Mat out, const float* bias, float alpha, float softcap) {
  __shared__ float xs[kRows][33];
  __shared__ float ws[kCols][33];
  pdl_launch();
  pdl_wait();
  const int row0 = blockIdx.y * kRows, col0 = blockIdx.x * kCols;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;  // outputs: rows ty, ty + 16; columns tx + 16 * j
  float sum[2][4] = {};
  for (int group = 0; group * 32 < w.k; ++group) {
    for (int i = threadIdx.x; i < kRows * 32; i += kThreads) {
      const int r = i / 32, k = group * 32 + i % 32;
      xs[r][i % 32] =
          row0 + r < x.rows && k < w.k ? load1(x.data, x.dtype, static_cast<int64_t>(row0 + r) * x.stride + k) : 0.0f;
    }
    if (threadIdx.x < kCols) {
      float v[32] = {};
      if (col0 + threadIdx.x < out.cols) decode32(w, col0 + threadIdx.x, group, v);
#pragma unroll
      for (int i = 0; i < 32; ++i) ws[threadIdx.x][i] = v[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 32; ++k) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] += xs[ty + 16 * i][k] * ws[tx + 16 * j][k];
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int r = row0 + ty + 16 * i, c = col0 + tx + 16 * j;
      if (r >= x.rows || c >= out.cols) continue;
      float v = alpha * sum[i][j] + (bias != nullptr ? bias[c] : 0.0f);
      if (softcap > 0) v = softcap * tanhf(v / softcap);
      store1(out.data, out.dtype, r * out.stride + c, v);
    }
  }
}

}  // namespace

void linear_exact(cudaStream_t stream, const LinearCall& call) {
  const Linear& l = *call.linear;
  const Mat x = mat(call.x), out = mat(call.out);
  const dim3 grid(static_cast<unsigned>((out.cols + kCols - 1) / kCols),
                  static_cast<unsigned>((out.rows + kRows - 1) / kRows));
  launch("multiply in f32", exact_kernel, grid, dim3(kThreads), 0, stream, weights(l.shape, l.w.data), x, out,
         static_cast<const float*>(l.bias.data), l.alpha, call.epilogue.softcap);
}

}  // namespace baize::cuda
