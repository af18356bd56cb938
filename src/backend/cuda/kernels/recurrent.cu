// Ops with a state of fixed size a sequence: convolutions over the last tokens, linear attention with decay, selective
// scans, RG-LRU, token shifts and RWKV-4. Sequences and channels run side by side, the tokens of a sequence one after
// another; what they read is fetched some tokens ahead. Not tuned for long prompts. Definition: ops/host_recurrent.cc.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/kernels/activation.cuh"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 8;  // tokens fetched at once

struct States {
  float* data;
  int64_t page, offset;  // in floats
  const int* table;
  int64_t table_stride, column;
  const int* q_start;
  const int* positions;
};

States states(const KvView& view, const StepInput& input, int64_t offset) {
  const Tensor& table = input.block_tables[static_cast<size_t>(view.group)];
  return {static_cast<float*>(view.k.data),
          view.k.strides[0],
          offset,
          static_cast<const int*>(table.data),
          table.strides[0],
          view.column,
          static_cast<const int*>(input.q_start.data),
          static_cast<const int*>(input.positions.data)};
}

/// A sequence's rows and state; `fresh`: the state begins at zero, whatever its memory holds.
struct Run {
  int64_t begin, end;
  float* state;
  bool fresh;
};

__device__ __forceinline__ Run run_of(const States& s, int seq) {
  Run run{s.q_start[seq], s.q_start[seq + 1], nullptr, false};
  if (run.begin >= run.end) return run;
  run.state = s.data + s.table[seq * s.table_stride + s.column] * s.page + s.offset;
  run.fresh = s.positions[run.begin] == 0;
  return run;
}

__device__ __forceinline__ float at(const Mat& m, int64_t row, int64_t i) {
  return load1(m.data, m.dtype, row * m.stride + i);
}
__device__ __forceinline__ void put(const Mat& m, int64_t row, int64_t i, float v) {
  store1(m.data, m.dtype, row * m.stride + i, v);
}

// Calls body(row, values) for the rows of a run in order; values are those of `inputs` in column i, fetched ahead.
template <int kInputs, typename Body>
__device__ __forceinline__ void for_rows(const Run& run, const Mat (&inputs)[kInputs], int i, Body body) {
  for (int64_t r0 = run.begin; r0 < run.end; r0 += kAhead) {
    float values[kAhead][kInputs];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
#pragma unroll
      for (int n = 0; n < kInputs; ++n) values[j][n] = r0 + j < run.end ? at(inputs[n], r0 + j, i) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (r0 + j < run.end) body(r0 + j, values[j]);
    }
  }
}

constexpr int kWidest = 8;  // convolution

struct ConvKernelArgs {
  Mat x;
  States states;
  const float* weight;
  const float* bias;
  int width;
  ActArgs activation;
};

__global__ void __launch_bounds__(kThreads) conv_kernel(const __grid_constant__ ConvKernelArgs a) {
  pdl_launch();
  pdl_wait();
  const int c = blockIdx.x * kThreads + threadIdx.x;
  const Run run = run_of(a.states, blockIdx.y);
  if (c >= a.x.cols || run.state == nullptr) return;
  const int kept = a.width - 1;
  float past[kWidest] = {}, weight[kWidest] = {};  // the last kWidest inputs; the newest is last
#pragma unroll
  for (int i = 0; i < kWidest; ++i) {
    const int j = i - (kWidest - a.width);  // of the convolution
    if (j >= 0) weight[i] = a.weight[static_cast<int64_t>(c) * a.width + j];
    if (j >= 1 && !run.fresh) past[i] = run.state[static_cast<int64_t>(c) * kept + j - 1];
  }
  const float bias = a.bias != nullptr ? a.bias[c] : 0.0f;
  const Mat inputs[1] = {a.x};
  for_rows(run, inputs, c, [&](int64_t r, const float(&in)[1]) {
#pragma unroll
    for (int i = 0; i + 1 < kWidest; ++i) past[i] = past[i + 1];
    past[kWidest - 1] = in[0];
    float sum = bias;
#pragma unroll
    for (int i = 0; i < kWidest; ++i) sum += past[i] * weight[i];
    put(a.x, r, c, activation_of(a.activation, sum));
  });
#pragma unroll
  for (int i = 0; i < kWidest; ++i) {
    const int j = i - (kWidest - a.width);
    if (j >= 1) run.state[static_cast<int64_t>(c) * kept + j - 1] = past[i];
  }
}

constexpr int kRecurrenceWarps = 8;

struct RecurrenceKernelArgs {
  Mat q, k, v, decay, beta, out;  // decay, beta: no data: none
  States states;
  const float* rate;
  const float* skip;
  int heads, heads_of_key, dk, dv;
  bool delta, unit_keys, channel_decay;
  float q_scale;
};

// One warp a column of a head's state; lane l has the key channels l, l + 32, ...
template <int kChunks>
__global__ void __launch_bounds__(kRecurrenceWarps * 32)
    recurrence_kernel(const __grid_constant__ RecurrenceKernelArgs a) {
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % 32;
  const int column = blockIdx.x * kRecurrenceWarps + threadIdx.x / 32;
  const int h = blockIdx.y;
  const Run run = run_of(a.states, blockIdx.z);
  if (column >= a.dv || run.state == nullptr) return;
  float* state = run.state + static_cast<int64_t>(h) * a.dk * a.dv + column;  // [dk][dv]
  const int64_t key0 = static_cast<int64_t>(h / a.heads_of_key) * a.dk;
  const int64_t value_at = static_cast<int64_t>(h) * a.dv + column;
  const float skip = a.skip != nullptr ? a.skip[h] : 0.0f;
  const float constant = a.rate != nullptr ? a.rate[h] : 1.0f;
  const bool decays = a.rate == nullptr && a.decay.data != nullptr;
  float s[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = c * 32 + lane;
    s[c] = i < a.dk && !run.fresh ? state[static_cast<int64_t>(i) * a.dv] : 0.0f;
  }
  for (int64_t r = run.begin; r < run.end; ++r) {
    float q[kChunks], k[kChunks], q_squares = 0, k_squares = 0, seen = 0;
    const float v = at(a.v, r, value_at);
    const float beta = a.beta.data != nullptr ? at(a.beta, r, h) : 1.0f;
    const float shared_decay = decays && !a.channel_decay ? at(a.decay, r, h) : constant;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int i = c * 32 + lane;
      const bool in = i < a.dk;
      q[c] = in ? at(a.q, r, key0 + i) : 0.0f;
      k[c] = in ? at(a.k, r, key0 + i) : 0.0f;
      q_squares += q[c] * q[c];
      k_squares += k[c] * k[c];
      s[c] *= decays && a.channel_decay && in ? at(a.decay, r, static_cast<int64_t>(h) * a.dk + i) : shared_decay;
    }
    float q_factor = a.q_scale, k_factor = 1;
    if (a.unit_keys) {
      q_factor /= sqrtf(warp_sum(q_squares) + 1e-6f);
      k_factor /= sqrtf(warp_sum(k_squares) + 1e-6f);
    }
    if (a.delta) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) seen += s[c] * (k[c] * k_factor);
      seen = warp_sum(seen);
    }
    const float change = (v - seen) * beta;
    float y = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      s[c] += k[c] * k_factor * change;
      y += q[c] * q_factor * s[c];
    }
    y = warp_sum(y) + skip * v;
    if (lane == 0) put(a.out, r, value_at, y);
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = c * 32 + lane;
    if (i < a.dk) state[static_cast<int64_t>(i) * a.dv] = s[c];
  }
}

constexpr int kScanLanes = 16;  // of a channel

struct ScanKernelArgs {
  Mat x, dt, b, c, out;
  States states;
  const float* rate;
  const float* skip;
  int n;
};

// Sixteen lanes a channel; lane l has the values l, l + 16, ... of its state.
template <int kChunks>
__global__ void __launch_bounds__(kThreads) scan_kernel(const __grid_constant__ ScanKernelArgs a) {
  pdl_launch();
  pdl_wait();
  const int lane = threadIdx.x % kScanLanes;
  const int d = blockIdx.x * (kThreads / kScanLanes) + threadIdx.x / kScanLanes;
  const Run run = run_of(a.states, blockIdx.y);
  if (run.state == nullptr) return;
  const bool active = d < a.out.cols;
  const int64_t base = static_cast<int64_t>(active ? d : 0) * a.n;
  const int column = active ? d : 0;
  float s[kChunks], rate[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = c * kScanLanes + lane;
    s[c] = i < a.n && !run.fresh ? run.state[base + i] : 0.0f;
    rate[c] = i < a.n ? a.rate[base + i] : 0.0f;
  }
  const float skip = a.skip[column];
  for (int64_t r = run.begin; r < run.end; ++r) {
    const float dt = softplus(at(a.dt, r, column)), x = at(a.x, r, column);
    float y = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int i = c * kScanLanes + lane;
      if (i >= a.n) continue;
      s[c] = expf(-rate[c] * dt) * s[c] + dt * at(a.b, r, i) * x;
      y += s[c] * at(a.c, r, i);
    }
#pragma unroll
    for (int o = kScanLanes / 2; o > 0; o >>= 1) y += __shfl_xor_sync(~0u, y, o);
    if (lane == 0 && active) put(a.out, r, d, y + skip * x);
  }
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int i = c * kScanLanes + lane;
    if (active && i < a.n) run.state[base + i] = s[c];
  }
}

__global__ void __launch_bounds__(kThreads)
    lru_kernel(Mat x, Mat input_gate, Mat decay_gate, const float* rates, const __grid_constant__ States all) {
  pdl_launch();
  pdl_wait();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const Run run = run_of(all, blockIdx.y);
  if (i >= x.cols || run.state == nullptr) return;
  float state = run.fresh ? 0.0f : run.state[i];
  const float rate = rates[i];
  const Mat inputs[3] = {x, input_gate, decay_gate};
  for_rows(run, inputs, i, [&](int64_t r, const float(&in)[3]) {
    const float log_decay = -8.0f * sigmoid(in[2]) * rate;
    const bool first = run.fresh && r == run.begin;
    const float strength = first ? 1.0f : sqrtf(1.0f - expf(2 * log_decay));
    state = expf(log_decay) * state + in[0] * sigmoid(in[1]) * strength;
    put(x, r, i, state);
  });
  run.state[i] = state;
}

__global__ void __launch_bounds__(kThreads) shift_kernel(Mat x, Mat out, const __grid_constant__ States all) {
  pdl_launch();
  pdl_wait();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const Run run = run_of(all, blockIdx.y);
  if (i >= x.cols || run.state == nullptr) return;
  float last = run.fresh ? 0.0f : run.state[i];
  const Mat inputs[1] = {x};
  for_rows(run, inputs, i, [&](int64_t r, const float(&in)[1]) {
    put(out, r, i, last);
    last = in[0];
  });
  run.state[i] = last;
}

__global__ void __launch_bounds__(kThreads)
    wkv_kernel(Mat k, Mat v, Mat out, const float* rates, const float* firsts, const __grid_constant__ States all) {
  pdl_launch();
  pdl_wait();
  const int i = blockIdx.x * kThreads + threadIdx.x;
  const int64_t width = k.cols;
  const Run run = run_of(all, blockIdx.y);
  if (i >= width || run.state == nullptr) return;
  float num = run.fresh ? 0.0f : run.state[i];
  float den = run.fresh ? 0.0f : run.state[width + i];
  float top = run.fresh ? 0.0f : run.state[2 * width + i];
  const float rate = rates[i], first = firsts[i];
  const Mat inputs[2] = {k, v};
  for_rows(run, inputs, i, [&](int64_t r, const float(&in)[2]) {
    const float key = in[0], value = in[1], bonus = key + first;
    const float before = den > 0 ? top : -INFINITY;
    const float high = fmaxf(before, bonus);
    float old = expf(before - high), now = expf(bonus - high);
    put(out, r, i, (old * num + now * value) / (old * den + now));
    const float faded = before - rate;
    top = fmaxf(faded, key);
    old = expf(faded - top);
    now = expf(key - top);
    num = old * num + now * value;
    den = old * den + now;
  });
  run.state[i] = num;
  run.state[width + i] = den;
  run.state[2 * width + i] = top;
}

dim3 channels_by_sequences(int channels, int64_t seqs, int each = kThreads) {
  return dim3(static_cast<unsigned>((channels + each - 1) / each), static_cast<unsigned>(seqs));
}

const float* floats_of(const Tensor& t) { return t.present() ? static_cast<const float*>(t.data) : nullptr; }
Mat mat_or_none(const Tensor& t) { return t.present() ? mat(t) : Mat{}; }

}  // namespace

void causal_conv(cudaStream_t stream, const ConvArgs& args, const StepInput& input, const Tensor& x,
                 const KvView& state) {
  if (args.width > kWidest) unsupported("the CUDA backend has no convolution over more than 8 tokens");
  const ConvKernelArgs a{mat(x),
                         states(state, input, args.offset),
                         floats_of(args.weight),
                         floats_of(args.bias),
                         static_cast<int>(args.width),
                         ActArgs{.kind = args.activation}};
  launch("convolve", conv_kernel, channels_by_sequences(a.x.cols, input.seqs), dim3(kThreads), 0, stream, a);
}

void recurrence(cudaStream_t stream, const RecurrenceArgs& args, const StepInput& input, const RecurrenceInputs& in,
                const KvView& state, const Tensor& out) {
  const RecurrenceKernelArgs a{mat(in.q),
                               mat(in.k),
                               mat(in.v),
                               mat_or_none(in.decay),
                               mat_or_none(in.beta),
                               mat(out),
                               states(state, input, args.offset),
                               floats_of(args.rate),
                               floats_of(args.skip),
                               static_cast<int>(args.heads),
                               static_cast<int>(args.heads / args.key_heads),
                               static_cast<int>(args.key_dim),
                               static_cast<int>(args.value_dim),
                               args.delta,
                               args.unit_keys,
                               args.channel_decay,
                               args.q_scale};
  if (a.dk > 512) unsupported("the CUDA backend has no recurrence over keys of more than 512 dimensions");
  auto* kernel = a.dk <= 32    ? recurrence_kernel<1>
                 : a.dk <= 64  ? recurrence_kernel<2>
                 : a.dk <= 128 ? recurrence_kernel<4>
                 : a.dk <= 256 ? recurrence_kernel<8>
                               : recurrence_kernel<16>;
  const dim3 grid(static_cast<unsigned>((a.dv + kRecurrenceWarps - 1) / kRecurrenceWarps),
                  static_cast<unsigned>(a.heads), static_cast<unsigned>(input.seqs));
  launch("recur", kernel, grid, dim3(kRecurrenceWarps * 32), 0, stream, a);
}

void selective_scan(cudaStream_t stream, const ScanArgs& args, const StepInput& input, const ScanInputs& in,
                    const KvView& state, const Tensor& out) {
  const ScanKernelArgs a{mat(in.x),
                         mat(in.dt),
                         mat(in.b),
                         mat(in.c),
                         mat(out),
                         states(state, input, args.offset),
                         floats_of(args.rate),
                         floats_of(args.skip),
                         static_cast<int>(args.state)};
  if (a.n > 256) unsupported("the CUDA backend has no scan with a state of more than 256 values a channel");
  auto* kernel = a.n <= 16 ? scan_kernel<1> : a.n <= 64 ? scan_kernel<4> : scan_kernel<16>;
  launch("scan", kernel, channels_by_sequences(a.out.cols, input.seqs, kThreads / kScanLanes), dim3(kThreads), 0,
         stream, a);
}

void rg_lru(cudaStream_t stream, const LruArgs& args, const StepInput& input, const Tensor& x, const Tensor& input_gate,
            const Tensor& decay_gate, const KvView& state) {
  launch("recur", lru_kernel, channels_by_sequences(static_cast<int>(x.shape[1]), input.seqs), dim3(kThreads), 0,
         stream, mat(x), mat(input_gate), mat(decay_gate), floats_of(args.rate), states(state, input, args.offset));
}

void token_shift(cudaStream_t stream, const StepInput& input, const Tensor& x, const KvView& state, int64_t offset,
                 const Tensor& out) {
  launch("shift", shift_kernel, channels_by_sequences(static_cast<int>(x.shape[1]), input.seqs), dim3(kThreads), 0,
         stream, mat(x), mat(out), states(state, input, offset));
}

void wkv4(cudaStream_t stream, const WkvArgs& args, const StepInput& input, const Tensor& k, const Tensor& v,
          const KvView& state, const Tensor& out) {
  launch("recur", wkv_kernel, channels_by_sequences(static_cast<int>(k.shape[1]), input.seqs), dim3(kThreads), 0,
         stream, mat(k), mat(v), mat(out), floats_of(args.rate), floats_of(args.first),
         states(state, input, args.offset));
}

}  // namespace baize::cuda
