// The row-wise ops that few models need: norms with a mean, activations with parameters, gates, scaling, sums, clamps,
// learned positions, mixes and decays. One thread an element, or one block a row where the row has sums.
#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    norm_variant_kernel(Mat x, const float* weight, const float* bias, float eps, bool center, Mat out) {
  __shared__ float shared[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const auto count = static_cast<float>(x.cols);
  const auto at = [&](int i) { return load1(x.data, x.dtype, row * x.stride + i); };
  float mean = 0;
  if (center) {
    float sum = 0;
    for (int i = threadIdx.x; i < x.cols; i += kThreads) sum += at(i);
    mean = block_sum(sum, shared) / count;
  }
  float squares = 0;
  for (int i = threadIdx.x; i < x.cols; i += kThreads) {
    const float v = at(i) - mean;
    squares += v * v;
  }
  const float scale = 1.0f / sqrtf(block_sum(squares, shared) / count + eps);
  // Each thread writes only what it alone has read: out may be x.
  for (int i = threadIdx.x; i < x.cols; i += kThreads) {
    const float v = (at(i) - mean) * scale * weight[i] + (bias != nullptr ? bias[i] : 0.0f);
    store1(out.data, out.dtype, row * out.stride + i, v);
  }
}

// blockIdx.y: parts of a row; one part where the row's statistics are wanted.
__global__ void __launch_bounds__(kThreads) activate_kernel(const __grid_constant__ ActArgs args, Mat x, Mat out) {
  __shared__ float shared[33];
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int ff = out.cols;
  const bool gated = x.cols != ff;
  float cutoff = 0;
  if (args.sparsity > 0) {
    const auto count = static_cast<float>(ff);
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < ff; i += kThreads) sum += load1(x.data, x.dtype, row * x.stride + i);
    const float mean = block_sum(sum, shared) / count;
    for (int i = threadIdx.x; i < ff; i += kThreads) {
      const float v = load1(x.data, x.dtype, row * x.stride + i) - mean;
      squares += v * v;
    }
    cutoff = mean + sqrtf(block_sum(squares, shared) / count) * args.sparsity;
  }
  const int step = static_cast<int>(gridDim.y) * kThreads;
  for (int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x); i < ff; i += step) {
    float g = load1(x.data, x.dtype, row * x.stride + i);
    if (args.sparsity > 0) g = fmaxf(0.0f, g - cutoff);
    if (args.limit > 0 && g > args.limit) g = args.limit;
    float y = activation_of(args, g);
    if (gated) {
      float up = load1(x.data, x.dtype, row * x.stride + ff + i);
      if (args.limit > 0) up = up < -args.limit ? -args.limit : up > args.limit ? args.limit : up;
      y *= up + args.up_shift;
    }
    store1(out.data, out.dtype, row * out.stride + i, y);
  }
}

// out[row, i] = f(row, i) for every element of `out`.
template <typename F>
__global__ void __launch_bounds__(kThreads) map_kernel(Mat out, const __grid_constant__ F f) {
  pdl_launch();
  pdl_wait();
  const int64_t row = blockIdx.x;
  const int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
  if (i < out.cols) store1(out.data, out.dtype, row * out.stride + i, f(row, i));
}

__device__ __forceinline__ float element(const Mat& m, int64_t row, int i) {
  return load1(m.data, m.dtype, row * m.stride + i);
}

struct GateOf {
  Mat x, gate;
  int stretch;
  ActArgs args;
  __device__ float operator()(int64_t row, int i) const {
    return element(x, row, i) * activation_of(args, element(gate, row, i / stretch));
  }
};

struct Scaled {
  Mat x;
  const float* factors;  // null: none
  int step;              // 0: one factor for all
  float alpha;
  __device__ float operator()(int64_t row, int i) const {
    return element(x, row, i) * (factors != nullptr ? alpha * factors[i * step] : alpha);
  }
};

struct PlusVector {
  Mat x;
  const float* vector;
  __device__ float operator()(int64_t row, int i) const { return element(x, row, i) + vector[i]; }
};

struct Clamped {
  Mat x;
  float limit;
  __device__ float operator()(int64_t row, int i) const {
    const float v = element(x, row, i);
    return v < -limit ? -limit : v > limit ? limit : v;
  }
};

struct PlusPosition {
  Mat x;
  const float* table;
  int64_t width, offset;
  const int* positions;
  __device__ float operator()(int64_t row, int i) const {
    return element(x, row, i) + table[(positions[row] + offset) * width + i];
  }
};

struct Mixed {
  Mat x, other;
  const float* share;
  __device__ float operator()(int64_t row, int i) const {
    const float s = share[i];
    return element(x, row, i) * s + element(other, row, i) * (1.0f - s);
  }
};

// Writes the step sizes too, in place.
struct Decayed {
  Mat a;
  const float* rate;
  const float* bias;
  int stretch;
  float least, most;
  __device__ float operator()(int64_t row, int i) const {
    float step = softplus(element(a, row, i) + (bias != nullptr ? bias[i] : 0.0f));
    step = step < least ? least : step > most ? most : step;
    store1(a.data, a.dtype, row * a.stride + i, step);
    return expf(-rate[i / stretch] * step);
  }
};

unsigned parts_of(int cols) { return static_cast<unsigned>((cols + kThreads - 1) / kThreads); }

template <typename F>
void map(cudaStream_t stream, const char* name, const Mat& out, const F& f) {
  if (out.rows == 0 || out.cols == 0) return;
  launch(name, map_kernel<F>, dim3(static_cast<unsigned>(out.rows), parts_of(out.cols)), dim3(kThreads), 0, stream, out,
         f);
}

const float* floats_of(const Tensor& t) { return t.present() ? static_cast<const float*>(t.data) : nullptr; }

}  // namespace

void norm_variant(cudaStream_t stream, const Tensor& x, const Norm& norm, const Tensor& out) {
  const Mat in = mat(x), to = mat(out);
  if (in.rows == 0) return;
  launch("norm", norm_variant_kernel, dim3(static_cast<unsigned>(in.rows)), dim3(kThreads), 0, stream, in,
         floats_of(norm.weight), floats_of(norm.bias), norm.eps, norm.center, to);
}

void activate(cudaStream_t stream, const ActArgs& args, const Tensor& x, const Tensor& out) {
  const Mat in = mat(x), to = mat(out);
  if (to.rows == 0) return;
  const unsigned parts = args.sparsity > 0 ? 1 : parts_of(to.cols);
  launch("activate", activate_kernel, dim3(static_cast<unsigned>(to.rows), parts), dim3(kThreads), 0, stream, args, in,
         to);
}

void gate(cudaStream_t stream, const Tensor& x, const Tensor& gate, Activation activation) {
  const Mat to = mat(x), by = mat(gate);
  map(stream, "gate", to, GateOf{to, by, to.cols / by.cols, ActArgs{.kind = activation}});
}

void scale(cudaStream_t stream, const Tensor& x, const Tensor& vector, float alpha, const Tensor& out) {
  const int step = vector.present() && vector.shape[0] > 1 ? 1 : 0;
  map(stream, "scale", mat(out), Scaled{mat(x), floats_of(vector), step, alpha});
}

void add_vector(cudaStream_t stream, const Tensor& x, const Tensor& vector) {
  map(stream, "add a vector", mat(x), PlusVector{mat(x), floats_of(vector)});
}

void clamp(cudaStream_t stream, const Tensor& x, float limit) { map(stream, "clamp", mat(x), Clamped{mat(x), limit}); }

void add_positions(cudaStream_t stream, const StepInput& input, const Tensor& table, int64_t offset,
                   const Tensor& residual) {
  map(stream, "add positions", mat(residual),
      PlusPosition{mat(residual), floats_of(table), table.shape[1], offset,
                   static_cast<const int*>(input.positions.data)});
}

void mix(cudaStream_t stream, const Tensor& x, const Tensor& other, const Tensor& share, const Tensor& out) {
  map(stream, "mix", mat(out), Mixed{mat(x), mat(other), floats_of(share)});
}

void decay(cudaStream_t stream, const DecayArgs& args, const Tensor& a, const Tensor& decay) {
  const int stretch = static_cast<int>(a.shape[1] / args.rate.shape[0]);
  map(stream, "decay", mat(decay),
      Decayed{mat(a), floats_of(args.rate), floats_of(args.bias), stretch, args.least, args.most});
}

}  // namespace baize::cuda
