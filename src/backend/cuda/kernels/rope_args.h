// Rotation and head norm as kernels take them.
#pragma once

#include "ops/ops.h"

namespace baize::cuda {

struct RopeArgs {
  const float* inv_freq;  // null: no rotation
  int rot;                // rotated dimensions
  float scale;
  bool interleaved;
  float dynamic_factor, theta;
  int dynamic_length;
};

struct NormArgs {
  const float* weight;  // null: none
  float eps;
};

inline RopeArgs rope_args(const Rope& rope) {
  if (!rope.present()) return {};
  return {static_cast<const float*>(rope.inv_freq.data),
          static_cast<int>(rope.rot_dim()),
          rope.scale,
          rope.interleaved,
          rope.dynamic_factor,
          rope.theta,
          static_cast<int>(rope.dynamic_length)};
}
inline NormArgs norm_args(const Norm& norm) {
  return norm.present() ? NormArgs{static_cast<const float*>(norm.weight.data), norm.eps} : NormArgs{};
}

}  // namespace baize::cuda
