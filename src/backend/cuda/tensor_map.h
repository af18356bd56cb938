// How a tensor of bf16 in device memory is described to Hopper's copy engine: in boxes that arrive in shared memory as
// panels of 64 values a row, swizzled (kernels/wgmma.cuh). Any thread.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

namespace baize::cuda {

/// Sizes and box from the innermost dimension out, at most 4; strides in elements, of all dimensions but the innermost.
/// Throws Error(kUnsupported) where the engine cannot read such a tensor (16-byte strides and addresses).
CUtensorMap tensor_map(void* data, std::span<const int64_t> sizes, std::span<const int64_t> strides,
                       std::span<const int64_t> box);

}  // namespace baize::cuda
