#include "engine/block_pool.h"

#include "base/check.h"

namespace baize {

BlockPool::BlockPool(int64_t pages) : refs_(static_cast<size_t>(pages), 0) {
  free_.reserve(refs_.size());
  for (int64_t page = pages - 1; page >= 0; --page) free_.push_back(static_cast<int32_t>(page));
}

BlockPool::Ref BlockPool::take() {
  if (free_.empty()) return {};
  const int32_t page = free_.back();
  free_.pop_back();
  refs_[static_cast<size_t>(page)] = 1;
  return Ref(this, page);
}

BlockPool::Ref BlockPool::Ref::share() const {
  if (pool_ == nullptr) return {};
  ++pool_->refs_[static_cast<size_t>(page_)];
  return Ref(pool_, page_);
}

void BlockPool::release(int32_t page) {
  int32_t& refs = refs_[static_cast<size_t>(page)];
  BAIZE_CHECK(refs > 0);
  if (--refs == 0) free_.push_back(page);
}

void BlockPool::check() const {
  std::vector<bool> listed(refs_.size(), false);
  for (const int32_t page : free_) {
    BAIZE_CHECK(page >= 0 && page < pages());
    BAIZE_CHECK(!listed[static_cast<size_t>(page)]);
    BAIZE_CHECK(refs_[static_cast<size_t>(page)] == 0);
    listed[static_cast<size_t>(page)] = true;
  }
  for (size_t page = 0; page < refs_.size(); ++page) BAIZE_CHECK(listed[page] == (refs_[page] == 0));
}

}  // namespace baize
