// Pieces that the host ops and the reference share: element access, one row's norm and rotation, the place of a token
// in the paged cache. Scalar, for host memory. Pure functions; any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "ops/ops.h"

namespace baize::host {

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

inline float* row_of(const Tensor& t, int64_t r) {
  BAIZE_CHECK(t.dtype == DType::kF32 && t.strides[t.shape.rank() - 1] == 1);
  return t.as<float>() + r * t.strides[0];
}

/// Sum of products; the partial sums are independent, so that the processor overlaps them.
inline float dot(const float* a, const float* b, int64_t n) {
  constexpr int kSums = 8;
  float sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int s = 0; s < kSums; ++s) sums[s] += a[i + s] * b[i + s];
  }
  float total = 0;
  for (; i < n; ++i) total += a[i] * b[i];
  for (const float sum : sums) total += sum;
  return total;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
inline float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

float activate(const ActArgs& args, float x);

/// out = norm of `dim` values by row `head` of the weights (0 where they have one row); out may be x.
void norm_row(const float* x, const Norm& norm, int64_t head, int64_t dim, float* out);

/// Turns the first rot_dim values of a head in place. Angles are f32 products, as in the `transformers` library.
void rotate(const Rope& rope, const std::vector<float>& inv_freq, int64_t position, float* head);

/// Element offset of token `position` of sequence `seq`, head `head`, in a view of the paged cache.
int64_t cache_offset(const StepInput& input, const Tensor& view, int group, int64_t seq, int64_t position,
                     int64_t head);
/// The same of entry `index` of a view with a stride, or of token `index` of one without.
int64_t entry_offset(const StepInput& input, const KvView& view, int64_t seq, int64_t index);
/// How many tokens, or entries, a row at `position` may see.
inline int64_t entries_at(const KvView& view, int64_t position) {
  return view.stride > 0 ? (position + 1) / view.stride : position + 1;
}

}  // namespace baize::host
