// Derived: the load passes that give a stored tensor another form: slices (one expert of many), other row orders (fused
// matrices), transposes, fp8. Slices are views of the file; the others are copies, made once. Used by bind; one thread.
#pragma once

#include <deque>
#include <map>
#include <span>
#include <vector>

#include "formats/tensor_source.h"
#include "tensor/buffer.h"

namespace baize {

class Derived {
 public:
  /// A dry one gives tensors of the right size without values.
  explicit Derived(bool dry) : dry_(dry) {}

  /// `tensor` with another shape of as many elements.
  const SourceTensor& reshaped(const SourceTensor& tensor, const Shape& shape);
  /// Rows [begin, begin + count) of a matrix.
  const SourceTensor& rows(const SourceTensor& tensor, int64_t begin, int64_t count);
  /// Rows of a matrix in the given order.
  const SourceTensor& permuted(const SourceTensor& tensor, std::span<const int64_t> order);
  /// The rows of all tensors, which must have one format and width, one after the other.
  const SourceTensor& stacked(std::span<const SourceTensor* const> tensors);
  /// [k, n] -> [n, k]; of fp8 weights and of block formats, the values as f32.
  const SourceTensor& transposed(const SourceTensor& tensor);

  /// A matrix of plain floats as fp8 with a scale a row, quantised when it is loaded; the same for the same `tensor`.
  const SourceTensor& quantized(const SourceTensor& tensor);

  /// The copies; they must outlive every view of them.
  std::vector<Buffer> take_buffers() { return std::move(buffers_); }

 private:
  const SourceTensor& as_floats(const SourceTensor& tensor);
  SourceTensor& add(const SourceTensor& like, const Shape& shape);
  std::byte* allocate(SourceTensor& tensor, int64_t bytes);

  bool dry_;
  std::deque<SourceTensor> tensors_;  // stable addresses: the weight store knows tensors by them
  std::vector<Buffer> buffers_;
  std::map<const SourceTensor*, const SourceTensor*> quantized_;
};

}  // namespace baize
