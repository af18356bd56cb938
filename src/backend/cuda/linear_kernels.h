// The linear kernels of the CUDA backend, best first where priorities say so. Immutable; any thread.
#pragma once

#include <span>

#include "backend/cuda/kernels/kernels.h"
#include "ops/linear.h"

namespace baize::cuda {

std::span<const LinearKernel* const> linear_kernels();

/// Whether the kernel for these rows quantises them first, into its workspace: the op before it may do that for it.
bool quantizes_rows(const Linear& linear, const Tensor& x);
/// Where in the workspace.
Fp8Rows fp8_rows(const LinearShape& shape, const Tensor& x, void* workspace);

}  // namespace baize::cuda
