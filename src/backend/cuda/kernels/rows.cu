// Row-wise kernels: embedding, norms, additions, gated activations and gathering.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/decode.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

int norm_threads(int cols) { return cols <= 1024 ? 128 : cols <= 2048 ? 256 : cols <= 4096 ? 512 : 1024; }

__global__ void embed_kernel(Weights table, const int* ids, float alpha, Mat out) {
  pdl_launch();
  pdl_wait();
  const int row = blockIdx.x;
  const int64_t id = ids[row];
  const int groups = (table.k + 31) / 32;
  for (int g = blockIdx.y * blockDim.x + threadIdx.x; g < groups; g += gridDim.y * blockDim.x) {
    float v[32];
    decode32(table, id, g, v);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (g * 32 + i < table.k) store1(out.data, out.dtype, row * out.stride + g * 32 + i, alpha * v[i]);
    }
  }
}

// One block a row. With kAdd, `residual` += x first and the sum is what is normed. kWide: eight elements a thread.
template <bool kAdd, bool kWide>
__global__ void __launch_bounds__(1024) norm_kernel(Mat residual, Mat x, const float* weight, float eps, Mat out) {
  __shared__ float shared[33];
  constexpr int kStep = kWide ? 8 : 1;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int cols = x.cols;
  float kept[kStep];
  float sum = 0;
  for (int i = threadIdx.x * kStep; i < cols; i += blockDim.x * kStep) {
    float v[kStep];
    if constexpr (kWide) {
      load8(x.data, x.dtype, row * x.stride + i, v);
      if constexpr (kAdd) {
        float r[8];
        load8(residual.data, residual.dtype, row * residual.stride + i, r);
#pragma unroll
        for (int j = 0; j < 8; ++j) v[j] += r[j];
        store8(residual.data, residual.dtype, row * residual.stride + i, v);
      }
    } else {
      v[0] = load1(x.data, x.dtype, row * x.stride + i);
      if constexpr (kAdd) {
        v[0] += load1(residual.data, residual.dtype, row * residual.stride + i);
        store1(residual.data, residual.dtype, row * residual.stride + i, v[0]);
      }
    }
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      sum += v[j] * v[j];
      kept[j] = v[j];
    }
  }
  const float scale = rsqrtf(block_sum(sum, shared) / static_cast<float>(cols) + eps);
  const bool once = cols <= static_cast<int>(blockDim.x) * kStep;  // then `kept` holds all that this thread read
  const Mat& source = kAdd ? residual : x;
  for (int i = threadIdx.x * kStep; i < cols; i += blockDim.x * kStep) {
    if constexpr (kWide) {
      if (!once) load8(source.data, source.dtype, row * source.stride + i, kept);
      float w[8];
      load8(weight, DType::kF32, i, w);
#pragma unroll
      for (int j = 0; j < 8; ++j) w[j] *= kept[j] * scale;
      store8(out.data, out.dtype, row * out.stride + i, w);
    } else {
      if (!once) kept[0] = load1(source.data, source.dtype, row * source.stride + i);
      store1(out.data, out.dtype, row * out.stride + i, kept[0] * scale * weight[i]);
    }
  }
}

template <bool kWide>
__global__ void add_kernel(Mat residual, Mat x) {
  constexpr int kStep = kWide ? 8 : 1;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.y;
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * kStep;
  if (i >= x.cols) return;
  if constexpr (kWide) {
    float v[8], r[8];
    load8(x.data, x.dtype, row * x.stride + i, v);
    load8(residual.data, residual.dtype, row * residual.stride + i, r);
#pragma unroll
    for (int j = 0; j < 8; ++j) r[j] += v[j];
    store8(residual.data, residual.dtype, row * residual.stride + i, r);
  } else {
    const float v = load1(x.data, x.dtype, row * x.stride + i);
    store1(residual.data, residual.dtype, row * residual.stride + i,
           v + load1(residual.data, residual.dtype, row * residual.stride + i));
  }
}

template <bool kWide>
__global__ void gated_kernel(Mat gate_up, Activation activation, Mat out) {
  constexpr int kStep = kWide ? 8 : 1;
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.y;
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * kStep;
  if (i >= out.cols) return;
  const int64_t at = row * gate_up.stride + i;
  if constexpr (kWide) {
    float g[8], u[8];
    load8(gate_up.data, gate_up.dtype, at, g);
    load8(gate_up.data, gate_up.dtype, at + out.cols, u);
#pragma unroll
    for (int j = 0; j < 8; ++j) u[j] *= gate_of(g[j], activation);
    store8(out.data, out.dtype, row * out.stride + i, u);
  } else {
    const float g = load1(gate_up.data, gate_up.dtype, at);
    const float u = load1(gate_up.data, gate_up.dtype, at + out.cols);
    store1(out.data, out.dtype, row * out.stride + i, u * gate_of(g, activation));
  }
}

__global__ void gather_kernel(Mat x, const int* index, Mat out) {
  pdl_launch();
  pdl_wait();
  const int64_t from = index[blockIdx.x];
  for (int i = threadIdx.x; i < out.cols; i += blockDim.x) {
    store1(out.data, out.dtype, blockIdx.x * out.stride + i, load1(x.data, x.dtype, from * x.stride + i));
  }
}

__global__ void finish_kernel(Mat from, Mat out, const float* bias, float softcap) {
  pdl_launch();
  pdl_wait();
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= out.cols) return;
  const int64_t at = blockIdx.y * out.stride + i;
  float v = load1(from.data, from.dtype, blockIdx.y * from.stride + i);
  if (bias != nullptr) v += bias[i];
  if (softcap > 0) v = softcap * tanhf(v / softcap);
  store1(out.data, out.dtype, at, v);
}

unsigned blocks_for(int cols, bool is_wide, int threads) {
  const int per_block = threads * (is_wide ? 8 : 1);
  return static_cast<unsigned>((cols + per_block - 1) / per_block);
}

}  // namespace

void embed(cudaStream_t stream, const Embed& table, const Tensor& ids, const Tensor& out) {
  const Weights w = weights(table.shape, table.w.data);
  const unsigned parts = static_cast<unsigned>((w.k + 64 * 32 - 1) / (64 * 32));
  launch("embed tokens", embed_kernel, dim3(static_cast<unsigned>(out.shape[0]), parts), dim3(64), 0, stream, w,
         static_cast<const int*>(ids.data), table.alpha, mat(out));
}

void norm(cudaStream_t stream, const Tensor& x, const Norm& norm, const Tensor& out) {
  const Mat in = mat(x), to = mat(out);
  auto* kernel = wide(in) && wide(to) ? norm_kernel<false, true> : norm_kernel<false, false>;
  launch("norm", kernel, dim3(static_cast<unsigned>(in.rows)), dim3(norm_threads(in.cols)), 0, stream, Mat{}, in,
         static_cast<const float*>(norm.weight.data), norm.eps, to);
}

void add(cudaStream_t stream, const Tensor& residual, const Tensor& x) {
  const Mat r = mat(residual), in = mat(x);
  const bool w = wide(r) && wide(in);
  launch("add", w ? add_kernel<true> : add_kernel<false>,
         dim3(blocks_for(in.cols, w, 256), static_cast<unsigned>(in.rows)), dim3(256), 0, stream, r, in);
}

void add_norm(cudaStream_t stream, const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  const Mat r = mat(residual), in = mat(x), to = mat(out);
  auto* kernel = wide(r) && wide(in) && wide(to) ? norm_kernel<true, true> : norm_kernel<true, false>;
  launch("add and norm", kernel, dim3(static_cast<unsigned>(in.rows)), dim3(norm_threads(in.cols)), 0, stream, r, in,
         static_cast<const float*>(norm.weight.data), norm.eps, to);
}

void gated_activation(cudaStream_t stream, const Tensor& gate_up, Activation activation, const Tensor& out) {
  const Mat in = mat(gate_up), to = mat(out);
  const bool w = wide(in) && wide(to) && to.cols % 8 == 0;
  launch("gated activation", w ? gated_kernel<true> : gated_kernel<false>,
         dim3(blocks_for(to.cols, w, 256), static_cast<unsigned>(to.rows)), dim3(256), 0, stream, in, activation, to);
}

void gather_rows(cudaStream_t stream, const Tensor& x, const Tensor& index, const Tensor& out) {
  if (out.shape[0] == 0) return;
  launch("gather rows", gather_kernel, dim3(static_cast<unsigned>(out.shape[0])), dim3(256), 0, stream, mat(x),
         static_cast<const int*>(index.data), mat(out));
}

void finish_linear(cudaStream_t stream, const Tensor& from, const Tensor& out, const Tensor& bias,
                   const Epilogue& epilogue) {
  const Mat to = mat(out);
  launch("finish a linear", finish_kernel, dim3(blocks_for(to.cols, false, 256), static_cast<unsigned>(to.rows)),
         dim3(256), 0, stream, mat(from), to, static_cast<const float*>(bias.data), epilogue.softcap);
}

}  // namespace baize::cuda
