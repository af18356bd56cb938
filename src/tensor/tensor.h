// Tensor: a copyable view of typed memory that owns nothing; whoever made the memory (a Buffer, an Arena, a mapped
// file) keeps it alive. Trivially copyable, so that op arguments can be recorded. Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/check.h"
#include "tensor/dtype.h"

namespace baize {

/// Where memory lives: host, or CUDA device `index`.
struct Place {
  enum Kind : uint8_t { kHost, kCuda };
  Kind kind = kHost;
  int16_t index = 0;
  friend bool operator==(const Place&, const Place&) = default;
};

/// Up to four extents, outermost first. Unused ones are absent, not 1.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  constexpr explicit Shape(std::span<const int64_t> dims) {
    BAIZE_CHECK(dims.size() <= kMaxRank);
    for (const int64_t d : dims) dims_[static_cast<size_t>(rank_++)] = d;
  }
  constexpr int rank() const { return rank_; }
  constexpr int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)]; }
  constexpr int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }
  friend bool operator==(const Shape&, const Shape&) = default;
  std::string to_string() const;  // "[3, 128]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

using Strides = std::array<int64_t, Shape::kMaxRank>;  // in elements, outermost first

/// Strides of a dense row-major tensor.
Strides dense_strides(const Shape& shape);

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Place place;
  Shape shape;
  Strides strides{};

  Tensor() = default;
  /// A dense view.
  Tensor(void* memory, DType type, const Shape& extents, Place where = {})
      : data(memory), dtype(type), place(where), shape(extents), strides(dense_strides(extents)) {}

  /// True when the view refers to a tensor at all (a dry-run tensor has a shape and no memory).
  bool present() const { return shape.rank() > 0; }
  int64_t bytes() const { return shape.elements() * dtype_bytes(dtype); }  // of a dense view
  bool dense() const { return strides == dense_strides(shape); }

  /// Typed pointer to host or device memory; T must have the size of dtype.
  template <typename T>
  T* as() const {
    BAIZE_DCHECK(sizeof(T) == static_cast<size_t>(dtype_bytes(dtype)));
    return static_cast<T*>(data);
  }

  /// The dense view seen with another shape of equally many elements.
  Tensor reshaped(const Shape& extents) const;
  /// Rows [begin, begin + count) of the outermost dimension.
  Tensor rows(int64_t begin, int64_t count) const;
  /// Columns [begin, begin + count) of a rank-2 tensor, strided.
  Tensor columns(int64_t begin, int64_t count) const;
};

}  // namespace baize
