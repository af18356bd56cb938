// Opens libbaize_cuda.so, the CUDA backend, when asked for: the program itself starts and runs without it, and without
// any NVIDIA library. The object stays open for the life of the process. Any thread.
#pragma once

#include <memory>

#include "ops/backend.h"

namespace baize {

/// The CUDA backend of GPU `device`. Looks beside the program, then in ../lib/baize, or only at $BAIZE_CUDA_LIBRARY
/// where that is set. Throws Error(kUnsupported) when the library is not there or cannot be opened, and whatever
/// making the backend throws (no GPU, an old driver).
std::unique_ptr<Backend> load_cuda_backend(int device = 0);

}  // namespace baize
