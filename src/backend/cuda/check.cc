#include "backend/cuda/check.h"

#include "base/error.h"

namespace baize::cuda {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // not sticky errors are cleared, so that the next call reports its own
  const char* text = cudaGetErrorString(status);
  if (status == cudaErrorMemoryAllocation) {
    fail(ErrorKind::kResource, "the GPU has not enough free memory to {}: {}", what, text);
  }
  fail(ErrorKind::kIo, "the GPU failed to {}: {} ({})", what, text, cudaGetErrorName(status));
}

void unsupported(const char* message) { fail(ErrorKind::kUnsupported, "{}", message); }

}  // namespace baize::cuda
