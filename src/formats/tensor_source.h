// SourceTensor: one weight as a checkpoint file stores it: a name, a shape and a view of its bytes.
// Filled by the format readers (gguf, safetensors), read by the load passes. Immutable after open; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "tensor/mapped_file.h"
#include "tensor/quant_format.h"
#include "tensor/tensor.h"

namespace baize {

/// Rows that are made when they are asked for: of weights whose parts lie apart in the file, or that change their
/// format while they are loaded. Safe to call for disjoint ranges from several threads.
class RowMaker {
 public:
  virtual ~RowMaker() = default;
  /// Writes rows [begin, end) of the stored matrix to `out`. Throws Error(kCorrupt) for values that are no weights.
  virtual void make(int64_t begin, int64_t end, std::byte* out) const = 0;
  /// Tells that nobody will ask again soon, so that the pages read need not stay resident.
  virtual void done() const = 0;
};

struct SourceTensor {
  std::string name;                        // the file's own spelling
  QuantFormat format;                      // how `bytes` encode the values
  Shape shape;                             // row-major, outermost first: a linear is [n, k]
  std::span<const std::byte> bytes;        // exactly what format and shape need, aligned to its elements
  std::shared_ptr<const MappedFile> file;  // where `bytes` came from; keeps them alive
  int64_t period = 0;                      // > 0: dummy weights, the same bytes again after so many
  std::shared_ptr<const RowMaker> rows{};  // where `bytes` has a size but no data: these make them
  int64_t first_row = 0;                   // of `rows`: the first that is this tensor's

  int64_t width() const { return shape.rank() == 0 ? 1 : shape[shape.rank() - 1]; }
  int64_t row_count() const { return shape.elements() / std::max<int64_t>(width(), 1); }
  /// Writes rows [begin, end), each of width() weights, to `out`, wherever they come from.
  void read_rows(int64_t begin, int64_t end, std::byte* out) const;
};

}  // namespace baize
