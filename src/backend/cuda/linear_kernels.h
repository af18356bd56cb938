// The linear kernels of the CUDA backend, best first where priorities say so. Immutable; any thread.
#pragma once

#include <span>

#include "backend/cuda/kernels/kernels.h"
#include "ops/linear.h"

namespace baize::cuda {

std::span<const LinearKernel* const> linear_kernels();

/// Whether the kernel of these calls quantises their rows first, into its workspace, and reads nothing else of them:
/// the op before may do that for it.
bool takes_quantized(std::span<const LinearCall> calls);
/// Where in the workspace.
Fp8Rows fp8_rows(const LinearShape& shape, const Tensor& x, void* workspace);

}  // namespace baize::cuda
