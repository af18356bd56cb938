// The linear kernels of the CUDA backend, best first where priorities say so. Immutable; any thread.
#pragma once

#include <span>

#include "ops/linear.h"

namespace baize::cuda {

std::span<const LinearKernel* const> linear_kernels();

}  // namespace baize::cuda
