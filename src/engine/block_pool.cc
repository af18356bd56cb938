#include "engine/block_pool.h"

#include "base/check.h"

namespace baize {

BlockPool::BlockPool(int64_t pages) : refs_(static_cast<size_t>(pages), 0), cached_(static_cast<size_t>(pages), false) {
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
  const auto page = static_cast<size_t>(page_);
  pool_->idle_ -= pool_->idle(page);
  ++pool_->refs_[page];
  return Ref(pool_, page_);
}

void BlockPool::set_cached(const Ref& ref, bool cached) {
  const auto page = static_cast<size_t>(ref.page());
  idle_ -= idle(page);
  cached_[page] = cached;
  idle_ += idle(page);
}

void BlockPool::release(int32_t page) {
  const auto at = static_cast<size_t>(page);
  BAIZE_CHECK(refs_[at] > 0);
  idle_ -= idle(at);
  if (--refs_[at] == 0) {
    BAIZE_CHECK(!cached_[at]);
    free_.push_back(page);
  }
  idle_ += idle(at);
}

void BlockPool::check() const {
  std::vector<bool> listed(refs_.size(), false);
  for (const int32_t page : free_) {
    BAIZE_CHECK(page >= 0 && page < pages());
    BAIZE_CHECK(!listed[static_cast<size_t>(page)]);
    BAIZE_CHECK(refs_[static_cast<size_t>(page)] == 0);
    listed[static_cast<size_t>(page)] = true;
  }
  int64_t idle_count = 0;
  for (size_t page = 0; page < refs_.size(); ++page) {
    BAIZE_CHECK(listed[page] == (refs_[page] == 0));
    idle_count += idle(page);
  }
  BAIZE_CHECK(idle_count == idle_);
}

}  // namespace baize
