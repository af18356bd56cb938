#include "model/derived.h"

#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "formats/fp8.h"
#include "ops/dequant.h"

namespace baize {

SourceTensor& Derived::add(const SourceTensor& like, const Shape& shape) {
  tensors_.push_back(like);
  tensors_.back().shape = shape;
  return tensors_.back();
}

std::byte* Derived::allocate(SourceTensor& tensor, int64_t bytes) {
  tensor.file = nullptr;
  tensor.period = 0;
  tensor.rows = nullptr;
  tensor.first_row = 0;
  std::byte* data = nullptr;
  if (!dry_) {
    buffers_.push_back(Buffer::host(bytes));
    data = static_cast<std::byte*>(buffers_.back().data());
  }
  tensor.bytes = {data, static_cast<size_t>(bytes)};
  return data;
}

const SourceTensor& Derived::reshaped(const SourceTensor& tensor, const Shape& shape) {
  BAIZE_CHECK(shape.elements() == tensor.shape.elements());
  return add(tensor, shape);
}

const SourceTensor& Derived::rows(const SourceTensor& tensor, int64_t begin, int64_t count) {
  const int64_t k = tensor.shape[1], row_bytes = tensor.format.row_bytes(k);
  BAIZE_CHECK(begin + count <= tensor.shape[0]);
  SourceTensor& slice = add(tensor, {count, k});
  slice.first_row += begin;
  const auto first = static_cast<size_t>(begin * row_bytes), size = static_cast<size_t>(count * row_bytes);
  slice.bytes =
      tensor.bytes.data() == nullptr ? std::span(tensor.bytes.data(), size) : tensor.bytes.subspan(first, size);
  return slice;
}

const SourceTensor& Derived::permuted(const SourceTensor& tensor, std::span<const int64_t> order) {
  const int64_t k = tensor.shape[1], row_bytes = tensor.format.row_bytes(k);
  const auto count = static_cast<int64_t>(order.size());
  if (tensor.period > 0) return rows(tensor, 0, count);  // one random row is as good as another
  SourceTensor& copy = add(tensor, {count, k});
  std::byte* to = allocate(copy, count * row_bytes);
  for (size_t i = 0; to != nullptr && i < order.size(); ++i) {
    BAIZE_CHECK(order[i] >= 0 && order[i] < tensor.shape[0]);
    tensor.read_rows(order[i], order[i] + 1, to + static_cast<int64_t>(i) * row_bytes);
  }
  return copy;
}

const SourceTensor& Derived::stacked(std::span<const SourceTensor* const> tensors) {
  int64_t rows = 0;
  for (const SourceTensor* tensor : tensors) {
    if (!(tensor->format == tensors[0]->format)) {
      fail(ErrorKind::kUnsupported, "tensors {} and {} have different formats, {} and {}, and are needed as one",
           tensors[0]->name, tensor->name, tensors[0]->format.name(), tensor->format.name());
    }
    rows += tensor->shape[0];
  }
  const int64_t k = tensors[0]->shape[1], row_bytes = tensors[0]->format.row_bytes(k);
  SourceTensor& all = add(*tensors[0], {rows, k});
  std::byte* to = allocate(all, rows * row_bytes);
  for (const SourceTensor* tensor : tensors) {
    if (to == nullptr) break;
    tensor->read_rows(0, tensor->shape[0], to);
    to += tensor->shape[0] * row_bytes;
  }
  return all;
}

const SourceTensor& Derived::as_floats(const SourceTensor& tensor) {
  const int64_t n = tensor.shape[0], k = tensor.shape[1];
  SourceTensor& copy = add(tensor, {n, k});
  copy.format = QuantFormat::plain(DType::kF32);
  std::byte* to = allocate(copy, n * k * int64_t{sizeof(float)});
  std::vector<std::byte> row(static_cast<size_t>(tensor.format.row_bytes(k)));
  for (int64_t i = 0; to != nullptr && i < n; ++i) {
    tensor.read_rows(i, i + 1, row.data());
    dequantize_row(tensor.format, row.data(), k, reinterpret_cast<float*>(to) + i * k);
  }
  return copy;
}

const SourceTensor& Derived::quantized(const SourceTensor& tensor) {
  const auto [at, added] = quantized_.try_emplace(&tensor, nullptr);
  if (added) {
    tensors_.push_back(quantized_to_fp8(tensor));
    at->second = &tensors_.back();
  }
  return *at->second;
}

const SourceTensor& Derived::transposed(const SourceTensor& tensor) {
  if (tensor.format.scheme != Scheme::kPlain) return transposed(as_floats(tensor));
  const int64_t k = tensor.shape[0], n = tensor.shape[1], size = dtype_bytes(tensor.format.elem);
  if (tensor.period > 0) return reshaped(tensor, {n, k});
  SourceTensor& copy = add(tensor, {n, k});
  std::byte* to = allocate(copy, n * k * size);
  for (int64_t i = 0; to != nullptr && i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      std::memcpy(to + (i * k + j) * size, tensor.bytes.data() + (j * n + i) * size, static_cast<size_t>(size));
    }
  }
  return copy;
}

}  // namespace baize
