// Arena: bump allocation of step-lifetime tensors from one block of memory at stable addresses. `mark` and `release`
// free everything made since, in stack order. An arena over no memory only counts (the dry run): same calls, same
// peak. Used by the one thread that runs a step.
#pragma once

#include <cstdint>

#include "tensor/buffer.h"

namespace baize {

class Arena {
 public:
  static constexpr int64_t kAlignment = 256;  // bytes; enough for any vector unit and for coalesced device access

  /// A counting arena: allocations have no memory and no limit.
  Arena() = default;
  /// An arena over `memory`, which must hold the peak of a dry run of the same step.
  explicit Arena(Buffer memory) : memory_(std::move(memory)) {}

  /// Uninitialised bytes (null when counting).
  void* allocate(int64_t bytes);
  int64_t mark() const { return used_; }
  void release(int64_t mark);
  /// Most bytes ever in use.
  int64_t peak() const { return peak_; }
  int64_t capacity() const { return memory_.bytes(); }
  Place place() const { return memory_.place(); }
  bool counting() const { return !memory_; }

 private:
  Buffer memory_;
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

}  // namespace baize
