// Norm and rotation of one head, by one warp.
#pragma once

#include "backend/cuda/kernels/common.cuh"
#include "backend/cuda/kernels/rope_args.h"

namespace baize::cuda {

// The angle of pair i at position p.
__device__ inline float angle(const RopeArgs& rope, int i, int position, int length) {
  if (rope.dynamic_factor > 0 && length > rope.dynamic_length) {
    const double rot = rope.rot;
    const double ratio = static_cast<double>(rope.dynamic_factor) * length / rope.dynamic_length -
                         (static_cast<double>(rope.dynamic_factor) - 1.0);
    const double base = rope.theta * pow(ratio, rot / (rot - 2.0));
    return static_cast<float>(position) * static_cast<float>(pow(base, -2.0 * i / rot));
  }
  return static_cast<float>(position) * rope.inv_freq[i];
}

/// Cosine and sine of pair i at position p, scaled.
__device__ inline float2 turn(const RopeArgs& rope, int i, int position, int length) {
  float sin, cos;
  sincosf(angle(rope, i, position, length), &sin, &cos);
  return make_float2(cos * rope.scale, sin * rope.scale);
}

/// Norms and rotates the head_dim values at `x` in shared memory. `squares`: this lane's share of the sum of their
/// squares. turn_of(i) gives turn() of pair i. Callers synchronise the warp before and after.
template <typename Turn>
__device__ __forceinline__ void norm_and_rotate(float* x, float squares, int lane, int head_dim, const NormArgs& norm,
                                                const RopeArgs& rope, Turn turn_of) {
  if (norm.weight != nullptr) {
    const float scale = rsqrtf(warp_sum(squares) / static_cast<float>(head_dim) + norm.eps);
    for (int i = lane; i < head_dim; i += 32) x[i] *= scale * norm.weight[i];
  }
  __syncwarp();
  if (rope.inv_freq == nullptr) return;
  const int half = rope.rot / 2;
  for (int i = lane; i < half; i += 32) {
    const float2 by = turn_of(i);
    const int p0 = rope.interleaved ? 2 * i : i;
    const int p1 = rope.interleaved ? 2 * i + 1 : i + half;
    const float x0 = x[p0], x1 = x[p1];
    x[p0] = x0 * by.x - x1 * by.y;
    x[p1] = x1 * by.x + x0 * by.y;
  }
}

}  // namespace baize::cuda
