// CUDA error codes as baize::Error, and the launch helper of every kernel. Free of fmt, so that .cu files compile fast.
// Any thread.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace baize::cuda {

/// Throws Error(kResource) for lack of memory and Error(kIo) for any other failure, naming `what` was being done.
void check(cudaError_t status, const char* what);

/// Throws Error(kUnsupported) with the message.
[[noreturn]] void unsupported(const char* message);

/// Launches `kernel` so that it may start while its predecessor drains (programmatic dependent launch). Every kernel
/// therefore calls pdl_wait() before it touches anything that an earlier kernel writes or reads.
template <typename... P, typename... A>
// NOLINTNEXTLINE(readability-function-size): the kernel's own arguments follow
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), name);
}

}  // namespace baize::cuda
