// Pieces that several ops of the reference share. Pure functions; any thread.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "ops/ops.h"

namespace baize::ref {

/// out = x / sqrt(mean(x^2) + eps) * weight over `dim` values; out may be x.
void rms_norm(const float* x, const Norm& norm, int64_t dim, float* out);

/// Element `index` of a tensor of any float type.
inline float load(const Tensor& t, int64_t index) {
  switch (t.dtype) {
    case DType::kF32:
      return t.as<const float>()[index];
    case DType::kF16:
      return f16_to_f32(t.as<const uint16_t>()[index]);
    case DType::kBF16:
      return bf16_to_f32(t.as<const uint16_t>()[index]);
    default:
      BAIZE_UNREACHABLE("not a float tensor");
  }
}

inline void store(const Tensor& t, int64_t index, float value) {
  switch (t.dtype) {
    case DType::kF32:
      t.as<float>()[index] = value;
      return;
    case DType::kF16:
      t.as<uint16_t>()[index] = f32_to_f16(value);
      return;
    case DType::kBF16:
      t.as<uint16_t>()[index] = f32_to_bf16(value);
      return;
    default:
      BAIZE_UNREACHABLE("not a float tensor");
  }
}

}  // namespace baize::ref
