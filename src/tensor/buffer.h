// Buffer: the move-only owner of a piece of memory. Only the weight store, the cache pool and the arena hold one.
// Freed by the deleter of whoever allocated it (host memory here, a device by its backend). Movable between threads.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "tensor/tensor.h"

namespace baize {

class Buffer {
 public:
  using Deleter = std::function<void(void*)>;

  Buffer() = default;
  Buffer(void* data, int64_t bytes, Place place, Deleter deleter)
      : data_(data), bytes_(bytes), place_(place), deleter_(std::move(deleter)) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr && deleter_) deleter_(data_);
  }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Place place() const { return place_; }
  explicit operator bool() const { return data_ != nullptr; }

  /// Zeroed host memory aligned to 64 bytes, in whole pages that the system hands out when first touched; large ones
  /// ask for huge pages. Throws Error(kResource) with the size when there is none.
  static Buffer host(int64_t bytes);

 private:
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(place_, other.place_);
    std::swap(deleter_, other.deleter_);
  }

  void* data_ = nullptr;
  int64_t bytes_ = 0;
  Place place_;
  Deleter deleter_;
};

}  // namespace baize
