// Rows of activations as e4m3 with f32 scales, for products on the fp8 matrix units: a scale a row, or one for each 128
// values of a row. Alone, and as the end of the norms and gated activations whose results such products read: these
// write the plain result too where others read it.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/fp8.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

constexpr int kGroup = 128;
constexpr int kMostThreads = 1024;

__device__ __forceinline__ float block_max(float v, float* shared) {
  v = warp_max(v);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = v;
  __syncthreads();
  v = warp_max(threadIdx.x % 32 < (blockDim.x + 31) / 32 ? shared[threadIdx.x % 32] : 0.0f);
  return v;
}

__device__ __forceinline__ float largest(const float (&v)[8]) {
  float top = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) top = fmaxf(top, fabsf(v[j]));
  return top;
}

// What a thread holds of its row: chunk c is eight values at (c * blockDim.x + threadIdx.x) * 8.
template <int kChunks>
__device__ __forceinline__ void store_row(const float (&v)[kChunks][8], int64_t row, int cols, const Fp8Rows& out,
                                          float* shared) {
  if (out.group == 0) {
    float top = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) top = fmaxf(top, largest(v[c]));
    top = block_max(top, shared);
    const float inverse = top > 0 ? kMaxE4m3 / top : 0.0f;
    if (threadIdx.x == 0) out.scales[row] = top / kMaxE4m3;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
      if (i < cols) *reinterpret_cast<uint2*>(out.codes + row * cols + i) = pack8_e4m3(v[c], inverse);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
    float top = largest(v[c]);
#pragma unroll
    for (int o = kGroup / 16; o > 0; o >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, o));
    const float inverse = top > 0 ? kMaxE4m3 / top : 0.0f;
    if (i >= cols) continue;
    if (i % kGroup == 0) out.scales[i / kGroup * static_cast<int64_t>(out.rows) + row] = top / kMaxE4m3;
    *reinterpret_cast<uint2*>(out.codes + row * cols + i) = pack8_e4m3(v[c], inverse);
  }
}

template <int kChunks>
__global__ void __launch_bounds__(kMostThreads) quantize_kernel(Mat x, Fp8Rows out) {
  __shared__ float shared[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  float v[kChunks][8] = {};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
    if (i < x.cols) load8(x.data, x.dtype, row * x.stride + i, v[c]);
  }
  store_row(v, row, x.cols, out, shared);
}

template <int kChunks, bool kAdd>
__global__ void __launch_bounds__(kMostThreads)
    norm_quantize_kernel(Mat residual, Mat x, const float* weight, float eps, Mat plain, Fp8Rows out) {
  __shared__ float shared[33], shared_top[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  float v[kChunks][8] = {};
  float sum = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
    if (i >= x.cols) continue;
    load8(x.data, x.dtype, row * x.stride + i, v[c]);
    if constexpr (kAdd) {
      float r[8];
      load8(residual.data, residual.dtype, row * residual.stride + i, r);
#pragma unroll
      for (int j = 0; j < 8; ++j) v[c][j] += r[j];
      store8(residual.data, residual.dtype, row * residual.stride + i, v[c]);
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) sum += v[c][j] * v[c][j];
  }
  const float scale = rsqrtf(block_sum(sum, shared) / static_cast<float>(x.cols) + eps);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
    if (i >= x.cols) continue;
    float w[8];
    load8(weight, DType::kF32, i, w);
#pragma unroll
    for (int j = 0; j < 8; ++j) v[c][j] *= scale * w[j];
    if (plain.data != nullptr) store8(plain.data, plain.dtype, row * plain.stride + i, v[c]);
  }
  store_row(v, row, x.cols, out, shared_top);
}

template <int kChunks>
__global__ void __launch_bounds__(kMostThreads)
    gate_quantize_kernel(Mat gate_up, Activation activation, Mat plain, Fp8Rows out) {
  __shared__ float shared[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int cols = gate_up.cols / 2;
  float v[kChunks][8] = {};
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = static_cast<int>(c * blockDim.x + threadIdx.x) * 8;
    if (i >= cols) continue;
    float g[8];
    load8(gate_up.data, gate_up.dtype, row * gate_up.stride + i, g);
    load8(gate_up.data, gate_up.dtype, row * gate_up.stride + cols + i, v[c]);
#pragma unroll
    for (int j = 0; j < 8; ++j) v[c][j] *= gate_of(g[j], activation);
    if (plain.data != nullptr) store8(plain.data, plain.dtype, row * plain.stride + i, v[c]);
  }
  store_row(v, row, cols, out, shared);
}

// Threads of a block, whole groups of them, and chunks of eight values each.
struct Cut {
  int threads, chunks;
};
Cut cut_row(int cols) {
  constexpr int kUnit = 128;
  for (int chunks = 1; chunks <= 4; chunks *= 2) {
    const int threads = (cols / 8 + chunks - 1) / chunks;
    const int whole = (threads + kUnit - 1) / kUnit * kUnit;
    if (whole <= (chunks == 1 ? 512 : kMostThreads)) return {whole, chunks};
  }
  return {0, 0};
}

template <typename Launch>
void with_chunks(int chunks, const Launch& launch_with) {
  if (chunks == 1) return launch_with(std::integral_constant<int, 1>());
  if (chunks == 2) return launch_with(std::integral_constant<int, 2>());
  launch_with(std::integral_constant<int, 4>());
}

}  // namespace

bool quantizes_fp8(const Tensor& x) {
  const Mat m = mat(x);
  return wide(m) && cut_row(m.cols).threads > 0;
}

void quantize_fp8(cudaStream_t stream, const Tensor& x, const Fp8Rows& out) {
  const Mat in = mat(x);
  const Cut cut = cut_row(in.cols);
  with_chunks(cut.chunks, [&](auto chunks) {
    launch("quantise rows", quantize_kernel<chunks()>, dim3(static_cast<unsigned>(in.rows)),
           dim3(static_cast<unsigned>(cut.threads)), 0, stream, in, out);
  });
}

void norm_quantize_fp8(cudaStream_t stream, const Tensor* residual, const Tensor& x, const Norm& norm,
                       const Tensor* plain, const Fp8Rows& out) {
  const Mat in = mat(x), to = plain != nullptr ? mat(*plain) : Mat{},
            sum = residual != nullptr ? mat(*residual) : Mat{};
  const Cut cut = cut_row(in.cols);
  with_chunks(cut.chunks, [&](auto chunks) {
    auto* kernel = residual != nullptr ? norm_quantize_kernel<chunks(), true> : norm_quantize_kernel<chunks(), false>;
    launch("norm and quantise", kernel, dim3(static_cast<unsigned>(in.rows)), dim3(static_cast<unsigned>(cut.threads)),
           0, stream, sum, in, static_cast<const float*>(norm.weight.data), norm.eps, to, out);
  });
}

void gate_quantize_fp8(cudaStream_t stream, const Tensor& gate_up, Activation activation, const Tensor* plain,
                       const Fp8Rows& out) {
  const Mat in = mat(gate_up), to = plain != nullptr ? mat(*plain) : Mat{};
  const Cut cut = cut_row(in.cols / 2);
  with_chunks(cut.chunks, [&](auto chunks) {
    launch("gate and quantise", gate_quantize_kernel<chunks()>, dim3(static_cast<unsigned>(in.rows)),
           dim3(static_cast<unsigned>(cut.threads)), 0, stream, in, activation, to, out);
  });
}

}  // namespace baize::cuda
