// DummyWeights: the bytes of weights that nobody trained, for `--load dummy`: valid blocks of random values of any
// length, which repeat after some tens of MiB, so that a model of any size costs the host no more than that. Any
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "tensor/quant_format.h"

namespace baize {

class DummyWeights {
 public:
  /// `mix`: what whoever asks for bytes chooses their formats by.
  explicit DummyWeights(std::string mix) : mix_(std::move(mix)) {}
  DummyWeights(const DummyWeights&) = delete;
  DummyWeights& operator=(const DummyWeights&) = delete;
  ~DummyWeights();

  struct Bytes {
    std::span<const std::byte> span;
    int64_t period;  // they repeat after so many
  };
  /// Whole blocks, `size` bytes of them, valid as long as this object: matrices of about 0.02 in size, or, for a
  /// `vector` (a norm's weight, a bias), values about 1. Throws Error(kUnsupported) for a block format that it does not
  /// make.
  Bytes bytes(const QuantFormat& format, bool vector, int64_t size);

  /// Bytes that nobody may read, for dry runs.
  std::span<const std::byte> unread(int64_t size);

  const std::string& mix() const { return mix_; }

 private:
  struct Pool {
    QuantFormat format;
    bool vector;
    int file;        // of memory
    int64_t period;  // bytes of it
    std::span<std::byte> mapped{};
  };
  Pool& pool(const QuantFormat& format, bool vector);

  std::string mix_;
  std::mutex mutex_;
  std::list<Pool> pools_;
  std::span<std::byte> unread_{};
  std::list<std::span<std::byte>> outgrown_;  // mappings that someone may still look at
};

}  // namespace baize
