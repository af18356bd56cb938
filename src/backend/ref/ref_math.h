// Pieces that several ops of the reference share. Pure functions; any thread.
#pragma once

#include <cstdint>

#include "ops/host_math.h"
#include "ops/ops.h"

namespace baize::ref {

/// out = x / sqrt(mean(x^2) + eps) * weight over `dim` values; out may be x.
void rms_norm(const float* x, const Norm& norm, int64_t dim, float* out);

using host::load;
using host::rotate;
using host::row_of;
using host::store;

}  // namespace baize::ref
