// The safetensors reader: one mapped file to the list of its tensors. The header is checked as the format demands
// (sizes that fit, no duplicate names, no holes, no overlap) before any offset is used. Stateless; any thread. Source:
// the safetensors format description (github.com/huggingface/safetensors).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/tensor_source.h"

namespace baize {

/// A tensor that is well formed but of no use to Baize.
struct UnsupportedTensor {
  std::string name;
  std::string what;  // for a message: "the element type I64"
};

struct SafetensorsContent {
  std::vector<SourceTensor> tensors;           // F32, F16 and BF16, in file order; a scalar has the shape [1]
  std::vector<SourceTensor> fp8;               // F8_E4M3, as kU8: without their scales no weights yet
  std::vector<SourceTensor> integers;          // I64, as kI64; among `unsupported` too
  std::vector<UnsupportedTensor> unsupported;  // other element types, and more than four dimensions
};

/// Throws Error(kCorrupt) naming the file and the tensor.
SafetensorsContent read_safetensors(const std::shared_ptr<const MappedFile>& file);

}  // namespace baize
