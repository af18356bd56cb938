// Row-wise op kernels: norms, sums, activations, rotation, rounding.
#include "backend/cpu/isa/ops_kernels.h"
#include "backend/cpu/isa/vec.h"

namespace baize::cpu::BAIZE_ISA {

namespace {

// Calls body(i, vector-sized piece) over [0, n); `part` gets the rest.
template <typename Whole, typename Part>
BAIZE_INLINE void over_lanes(int64_t n, const Whole& whole, const Part& part) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) whole(i);
  if (i < n) part(i, n - i);
}

float sum_of_squares(const float* x, int64_t n) {
  F32 sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const F32 v = load(x + i + s * kLanes);
      sums[s] = fma(v, v, sums[s]);
    }
  }
  over_lanes(
      n - i,
      [&](int64_t j) {
        const F32 v = load(x + i + j);
        sums[0] = fma(v, v, sums[0]);
      },
      [&](int64_t j, int64_t count) {
        const F32 v = load_part(x + i + j, count, 0);
        sums[1] = fma(v, v, sums[1]);
      });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

BAIZE_INLINE F32 activate_silu(F32 x) { return x / (1.0f + exp(-x)); }
// erf by formula 7.1.26 of Abramowitz and Stegun: 1.5e-7 absolute.
BAIZE_INLINE F32 activate_gelu(F32 x) {
  const F32 z = (F32)((I32)x & INT32_MAX) * 0.70710678f;
  const F32 t = 1.0f / fma(z, broadcast(0.3275911f), broadcast(1.0f));
  F32 p = fma(t, broadcast(1.061405429f), broadcast(-1.453152027f));
  p = fma(p, t, broadcast(1.421413741f));
  p = fma(p, t, broadcast(-0.284496736f));
  p = fma(p, t, broadcast(0.254829592f));
  const F32 tail = p * t * exp(-z * z);  // 1 - erf(|x| / sqrt(2))
  return 0.5f * x * select(x < 0.0f, tail, 2.0f - tail);
}
BAIZE_INLINE F32 activate_gelu_tanh(F32 x) {
  const F32 inner = x * fma(x * x, broadcast(0.79788456f * 0.044715f), broadcast(0.79788456f));
  // 0.5 (1 + tanh(y)) = 1 / (1 + e^-2y), which keeps its relative precision for large negative y.
  return x / (1.0f + exp(-2.0f * inner));
}
BAIZE_INLINE F32 activate_relu(F32 x) { return max(x, F32{}); }

template <typename Function>
BAIZE_INLINE void apply_gated(const float* gate, const float* up, int64_t n, float* out, const Function& activate) {
  over_lanes(
      n, [&](int64_t i) { store(out + i, activate(load(gate + i)) * load(up + i)); },
      [&](int64_t i, int64_t count) {
        store_part(out + i, count, activate(load_part(gate + i, count, 0)) * load_part(up + i, count, 0));
      });
}

}  // namespace

void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const F32 scale = broadcast(1.0f / __builtin_sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + eps));
  over_lanes(
      n, [&](int64_t i) { store(out + i, load(x + i) * scale * load(weight + i)); },
      [&](int64_t i, int64_t count) {
        store_part(out + i, count, load_part(x + i, count, 0) * scale * load_part(weight + i, count, 0));
      });
}

void add(float* sum, const float* x, int64_t n) {
  over_lanes(
      n, [&](int64_t i) { store(sum + i, load(sum + i) + load(x + i)); },
      [&](int64_t i, int64_t count) {
        for (int64_t j = i; j < i + count; ++j) sum[j] += x[j];
      });
}

void multiply(float* x, float factor, int64_t n) {
  over_lanes(
      n, [&](int64_t i) { store(x + i, load(x + i) * factor); },
      [&](int64_t i, int64_t count) {
        for (int64_t j = i; j < i + count; ++j) x[j] *= factor;
      });
}

void gated(Activation activation, const float* gate, const float* up, int64_t n, float* out) {
  switch (activation) {
    case Activation::kSilu:
      return apply_gated(gate, up, n, out, activate_silu);
    case Activation::kGelu:
      return apply_gated(gate, up, n, out, activate_gelu);
    case Activation::kGeluTanh:
      return apply_gated(gate, up, n, out, activate_gelu_tanh);
    case Activation::kRelu:
      return apply_gated(gate, up, n, out, activate_relu);
    default:
      __builtin_unreachable();  // HostOps has the others
  }
}

void rotate(float* head, const float* cosines, const float* sines, int64_t pairs, bool interleaved) {
  if (interleaved) {
    for (int64_t i = 0; i < pairs; ++i) {
      const float a = head[2 * i];
      const float b = head[2 * i + 1];
      head[2 * i] = a * cosines[i] - b * sines[i];
      head[2 * i + 1] = b * cosines[i] + a * sines[i];
    }
    return;
  }
  float* low = head;
  float* high = head + pairs;
  over_lanes(
      pairs,
      [&](int64_t i) {
        const F32 a = load(low + i), b = load(high + i), c = load(cosines + i), s = load(sines + i);
        store(low + i, a * c - b * s);
        store(high + i, b * c + a * s);
      },
      [&](int64_t begin, int64_t count) {
        for (int64_t i = begin; i < begin + count; ++i) {
          const float a = low[i], b = high[i];
          low[i] = a * cosines[i] - b * sines[i];
          high[i] = b * cosines[i] + a * sines[i];
        }
      });
}

void to_f16(const float* x, int64_t n, uint16_t* out) {
  over_lanes(
      n, [&](int64_t i) { store(out + i, load(x + i)); },
      [&](int64_t i, int64_t count) { store_part(out + i, count, load_part(x + i, count, 0)); });
}

}  // namespace baize::cpu::BAIZE_ISA
