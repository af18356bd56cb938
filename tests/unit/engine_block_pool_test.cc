// BlockPool: pages are handed out once, come back when the last reference goes, and check() sees every slip.
#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace baize {
namespace {

TEST(BlockPool, HandsOutEveryPageOnce) {
  BlockPool pool(5);
  std::vector<BlockPool::Ref> held;
  std::vector<bool> seen(5, false);
  for (int i = 0; i < 5; ++i) {
    held.push_back(pool.take());
    ASSERT_TRUE(held.back());
    EXPECT_FALSE(seen[static_cast<size_t>(held.back().page())]);
    seen[static_cast<size_t>(held.back().page())] = true;
  }
  EXPECT_EQ(pool.free_pages(), 0);
  const BlockPool::Ref none = pool.take();
  EXPECT_FALSE(none);
  EXPECT_EQ(none.page(), -1);
  held.clear();
  EXPECT_EQ(pool.free_pages(), 5);
  pool.check();
}

TEST(BlockPool, SharedPageComesBackWithTheLastReference) {
  BlockPool pool(1);
  BlockPool::Ref first = pool.take();
  BlockPool::Ref second = first.share();
  EXPECT_EQ(second.page(), first.page());
  first = BlockPool::Ref();
  EXPECT_EQ(pool.free_pages(), 0);
  BlockPool::Ref moved = std::move(second);
  EXPECT_EQ(pool.free_pages(), 0);
  moved = BlockPool::Ref();
  EXPECT_EQ(pool.free_pages(), 1);
}

// Random takes, shares and releases against a plain count of references.
TEST(BlockPool, AgreesWithAModelUnderRandomUse) {
  constexpr int64_t kPages = 17;
  BlockPool pool(kPages);
  std::mt19937 random(1);
  std::vector<BlockPool::Ref> held;
  std::map<int32_t, int> count;
  for (int step = 0; step < 20000; ++step) {
    const auto action = random() % 3;
    if (action == 0) {
      BlockPool::Ref page = pool.take();
      ASSERT_EQ(static_cast<bool>(page), static_cast<int64_t>(count.size()) < kPages);
      if (!page) continue;
      ASSERT_EQ(count.count(page.page()), 0u);
      ++count[page.page()];
      held.push_back(std::move(page));
    } else if (!held.empty()) {
      const size_t at = random() % held.size();
      if (action == 1 && held.size() < 100) {
        ++count[held[at].page()];
        held.push_back(held[at].share());
      } else {
        if (--count[held[at].page()] == 0) count.erase(held[at].page());
        std::swap(held[at], held.back());
        held.pop_back();
      }
    }
    ASSERT_EQ(pool.free_pages(), kPages - static_cast<int64_t>(count.size()));
    pool.check();
  }
}

}  // namespace
}  // namespace baize
