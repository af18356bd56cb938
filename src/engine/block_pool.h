// BlockPool: which pages of the cache are in use. It counts references and knows nothing of the memory behind a page.
// A Ref holds one reference and gives it back when it goes. A page may also be marked as cached: its only holder may
// then be the prefix tree, which gives it up on demand. Owned by the scheduler; used by the engine only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace baize {

class BlockPool {
 public:
  /// One reference to a page; an empty Ref refers to none. Move-only. The pool must outlive it.
  class Ref {
   public:
    Ref() = default;
    Ref(Ref&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), page_(std::exchange(other.page_, -1)) {}
    Ref& operator=(Ref&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(page_, other.page_);
      return *this;
    }
    Ref(const Ref&) = delete;
    Ref& operator=(const Ref&) = delete;
    ~Ref() {
      if (pool_ != nullptr) pool_->release(page_);
    }

    explicit operator bool() const { return pool_ != nullptr; }
    int32_t page() const { return page_; }  // -1 when empty
    /// Another reference to the same page.
    Ref share() const;

   private:
    friend class BlockPool;
    Ref(BlockPool* pool, int32_t page) : pool_(pool), page_(page) {}

    BlockPool* pool_ = nullptr;
    int32_t page_ = -1;
  };

  explicit BlockPool(int64_t pages);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int64_t pages() const { return static_cast<int64_t>(refs_.size()); }
  int64_t free_pages() const { return static_cast<int64_t>(free_.size()); }
  /// Pages whose only reference is the one marked as the cache's.
  int64_t idle_pages() const { return idle_; }
  int32_t refs(int32_t page) const { return refs_[static_cast<size_t>(page)]; }

  /// A page that nobody refers to, or an empty Ref when there is none. Its content is whatever it last held.
  Ref take();

  /// One of the references to the page is the cache's, or no longer.
  void set_cached(const Ref& ref, bool cached);

  /// Aborts unless the free list holds exactly the pages without references, each once, and the idle ones are counted.
  void check() const;

 private:
  void release(int32_t page);
  bool idle(size_t page) const { return cached_[page] && refs_[page] == 1; }

  std::vector<int32_t> refs_;  // references, by page
  std::vector<bool> cached_;   // by page
  std::vector<int32_t> free_;  // the next page to take is at the end
  int64_t idle_ = 0;
};

}  // namespace baize
