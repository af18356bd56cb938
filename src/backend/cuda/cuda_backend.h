// The CUDA backend: one NVIDIA GPU, one stream on which all its work is ordered. Built as the shared object
// libbaize_cuda.so, which backend/cuda_loader opens when asked for. Thread rules as in ops/backend.h.
#pragma once

#include <memory>

#include "ops/backend.h"

namespace baize {

/// The backend of CUDA device `device`. Throws Error(kUnsupported) when there is no GPU, its driver is too old, or the
/// GPU is older than those that the kernels were built for.
std::unique_ptr<Backend> make_cuda_backend(int device);

}  // namespace baize
