#include "tensor/arena.h"

#include <algorithm>

#include "base/check.h"

namespace baize {

void* Arena::allocate(int64_t bytes) {
  const int64_t at = used_;
  used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  peak_ = std::max(peak_, used_);
  if (counting()) return nullptr;
  BAIZE_CHECK(used_ <= memory_.bytes());  // the dry run sized it
  return static_cast<char*>(memory_.data()) + at;
}

void Arena::release(int64_t mark) {
  BAIZE_CHECK(mark >= 0 && mark <= used_);
  used_ = mark;
}

}  // namespace baize
