#include "tensor/tensor.h"

#include <fmt/format.h>

namespace baize {

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", dims_[static_cast<size_t>(i)]);
  return text + "]";
}

Strides dense_strides(const Shape& shape) {
  Strides strides{};
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[static_cast<size_t>(i)] = step;
    step *= shape[i];
  }
  return strides;
}

Tensor Tensor::reshaped(const Shape& extents) const {
  BAIZE_CHECK(dense() && extents.elements() == shape.elements());
  return Tensor(data, dtype, extents, place);
}

namespace {
void* offset(void* data, int64_t bytes) { return data == nullptr ? nullptr : static_cast<char*>(data) + bytes; }
}  // namespace

Tensor Tensor::rows(int64_t begin, int64_t count) const {
  BAIZE_CHECK(begin >= 0 && count >= 0 && begin + count <= shape[0]);
  Tensor view = *this;
  view.data = offset(data, begin * strides[0] * dtype_bytes(dtype));
  switch (shape.rank()) {
    case 1:
      view.shape = {count};
      break;
    case 2:
      view.shape = {count, shape[1]};
      break;
    case 3:
      view.shape = {count, shape[1], shape[2]};
      break;
    default:
      view.shape = {count, shape[1], shape[2], shape[3]};
      break;
  }
  return view;
}

Tensor Tensor::columns(int64_t begin, int64_t count) const {
  BAIZE_CHECK(shape.rank() == 2 && begin >= 0 && count >= 0 && begin + count <= shape[1]);
  Tensor view = *this;
  view.data = offset(data, begin * strides[1] * dtype_bytes(dtype));
  view.shape = {shape[0], count};
  return view;
}

}  // namespace baize
