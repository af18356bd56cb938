// SourceTensor: one weight as a checkpoint file stores it: a name, a shape and a view of its bytes.
// Filled by the format readers (gguf, safetensors), read by the load passes. Immutable after open; any thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "tensor/mapped_file.h"
#include "tensor/quant_format.h"
#include "tensor/tensor.h"

namespace baize {

struct SourceTensor {
  std::string name;                        // the file's own spelling
  QuantFormat format;                      // how `bytes` encode the values
  Shape shape;                             // row-major, outermost first: a linear is [n, k]
  std::span<const std::byte> bytes;        // exactly what format and shape need, aligned to its elements
  std::shared_ptr<const MappedFile> file;  // where `bytes` came from; keeps them alive
  int64_t period = 0;                      // > 0: dummy weights, the same bytes again after so many
};

}  // namespace baize
