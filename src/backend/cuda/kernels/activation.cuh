// Every activation, with its parameters, in f32: the same formulas as ops/host_rows.cc.
#pragma once

#include "backend/cuda/kernels/common.cuh"
#include "ops/ops.h"

namespace baize::cuda {

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ __forceinline__ float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

__device__ __forceinline__ float activation_of(const ActArgs& args, float x) {
  switch (args.kind) {
    case Activation::kSilu:
      return x * sigmoid(x);
    case Activation::kGelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    case Activation::kRelu2:
      return x > 0 ? x * x : 0.0f;
    case Activation::kGeluQuick:
      return x * sigmoid(1.702f * x);
    case Activation::kSigmoid:
      return sigmoid(x);
    case Activation::kSoftplus:
      return softplus(x);
    case Activation::kTanh:
      return tanhf(x);
    case Activation::kXielu:
      if (x > 0) return args.alpha_p * x * x + args.beta * x;
      return (expm1f(fminf(x, args.eps)) - x) * args.alpha_n + args.beta * x;
    case Activation::kIdentity:
      return x;
  }
  return 0;
}

/// The activations of gates, by fast arithmetic.
__device__ __forceinline__ float gate_of(float g, Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return g / (1.0f + __expf(-g));
    case Activation::kGelu:
      return 0.5f * g * (1.0f + erff(g * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * g * (1.0f + tanhf(0.79788456080286536f * (g + 0.044715f * g * g * g)));
    case Activation::kRelu:
      return fmaxf(g, 0.0f);
    default:  // not in gates of this backend (Ops::activate)
      break;
  }
  return 0;
}

}  // namespace baize::cuda
