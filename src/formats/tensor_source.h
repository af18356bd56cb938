// SourceTensor: one weight as a checkpoint file stores it: a name, a shape and a view of mapped bytes.
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
  std::span<const std::byte> bytes;        // inside `file`; exactly what format and shape need
  std::shared_ptr<const MappedFile> file;  // keeps `bytes` alive

  /// False when the data start inside an element, which the safetensors format allows and GGUF does not: such bytes
  /// must be copied before they are read as elements.
  bool aligned() const {
    const size_t step = format.scheme == Scheme::kPlain ? static_cast<size_t>(dtype_bytes(format.elem)) : 2;
    return reinterpret_cast<uintptr_t>(bytes.data()) % step == 0;
  }
};

}  // namespace baize
