// CacheLayout and SequenceCache: states share pages without overlap, windows let go of what slid out, and a pool of
// pages_for() pages is always enough for one sequence.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "engine/cache_layout.h"
#include "engine/sequence.h"
#include "unit/expect_error.h"

namespace baize {
namespace {

using Kind = StateNeed::Kind;

std::vector<StateNeed> repeat(const StateNeed& need, size_t count) { return std::vector<StateNeed>(count, need); }

std::vector<StateNeed> mixed(size_t wide, size_t narrow, int64_t bytes, int64_t window) {
  std::vector<StateNeed> needs;
  for (size_t i = 0; i < wide + narrow; ++i) {
    const bool is_narrow = narrow > 0 && i % ((wide + narrow) / narrow) == 0 && i / ((wide + narrow) / narrow) < narrow;
    needs.push_back(is_narrow ? StateNeed{Kind::kPerToken, bytes, 0} : StateNeed{Kind::kWindow, bytes, window});
  }
  return needs;
}

// Every byte of the pool belongs to at most one state of one page of one group.
void expect_disjoint(const CacheLayout& layout) {
  std::vector<char> pool(static_cast<size_t>(2 * layout.page_bytes));
  const auto places = layout.places(pool.data(), {}, 2);
  for (size_t g = 0; g < layout.groups.size(); ++g) {
    std::vector<bool> used(pool.size(), false);
    for (size_t s = 0; s < places.size(); ++s) {
      const StatePlace& place = places[s];
      if (place.group != static_cast<int>(g)) continue;
      EXPECT_EQ(place.page_stride, layout.page_bytes);
      EXPECT_EQ(place.block, layout.groups[g].block);
      for (int64_t page = 0; page < place.pages; ++page) {
        const int64_t begin = static_cast<char*>(place.base) - pool.data() + page * place.page_stride;
        const int64_t bytes = layout.groups[g].need.page_bytes(place.block);
        ASSERT_LE(begin + bytes, (page + 1) * layout.page_bytes);
        EXPECT_EQ(begin % 32, 0);
        for (int64_t i = begin; i < begin + bytes; ++i) {
          ASSERT_FALSE(used[static_cast<size_t>(i)]);
          used[static_cast<size_t>(i)] = true;
        }
      }
    }
  }
}

TEST(CacheLayout, EqualNeedsShareAGroup) {
  const CacheLayout layout = make_cache_layout(repeat({Kind::kPerToken, 1536, 0}, 30));
  ASSERT_EQ(layout.groups.size(), 1u);
  EXPECT_EQ(layout.groups[0].states, 30);
  EXPECT_EQ(layout.groups[0].block, kUsualBlock);
  EXPECT_EQ(layout.page_bytes, kUsualBlock * 30 * 1536);
  expect_disjoint(layout);
}

TEST(CacheLayout, GroupsOfDifferentWidthShareEqualPages) {
  for (const auto& [wide, narrow] : {std::pair<size_t, size_t>{22, 4}, {21, 21}, {25, 5}, {3, 1}, {1, 3}, {40, 2}}) {
    const CacheLayout layout = make_cache_layout(mixed(wide, narrow, 512, 1024));
    ASSERT_EQ(layout.groups.size(), 2u);
    for (const CacheGroup& group : layout.groups) {
      EXPECT_GE(group.block, kMinBlock);
      EXPECT_LE(group.block, kMaxBlock);
      EXPECT_EQ(group.block % kMinBlock, 0);
      const double used = static_cast<double>(group.block * group.token_bytes());
      const bool capped = group.block == kMaxBlock;
      EXPECT_TRUE(capped || used >= 0.75 * static_cast<double>(layout.page_bytes)) << wide << " : " << narrow;
    }
    expect_disjoint(layout);
  }
}

TEST(CacheLayout, AnEntryForSeveralTokensTakesItsShare) {
  std::vector<StateNeed> needs = repeat({Kind::kWindow, 512, 64}, 6);
  for (const int64_t stride : {4, 10, 200}) {
    for (int i = 0; i < 4; ++i) needs.push_back({Kind::kPerToken, 512, 0, stride});
  }
  const CacheLayout layout = make_cache_layout(needs);
  ASSERT_EQ(layout.groups.size(), 4u);
  EXPECT_EQ(layout.groups[1].page_bytes(128), 4 * 512 * 32);
  EXPECT_EQ(layout.groups[2].page_bytes(48), 4 * 512 * 5);  // as many as can end in a page
  EXPECT_EQ(layout.groups[3].page_bytes(128), 4 * 512);
  for (const CacheGroup& group : layout.groups) {
    EXPECT_LE(group.page_bytes(group.block), layout.page_bytes);
    const bool longer = group.page_bytes(group.block + kMinBlock) <= layout.page_bytes;
    EXPECT_TRUE(!longer || group.block == kMaxBlock);
  }
  expect_disjoint(layout);
}

TEST(CacheLayout, RefusesMoreGroupsThanTablesExist) {
  std::vector<StateNeed> needs;
  for (int i = 0; i <= kMaxCacheGroups; ++i) needs.push_back({Kind::kPerToken, 64 * (i + 1), 0});
  const std::string kinds = std::to_string(kMaxCacheGroups + 1) + " kinds",
                    most = "at most " + std::to_string(kMaxCacheGroups);
  test::expect_error(ErrorKind::kUnsupported, {kinds, most}, [&] { make_cache_layout(needs); });
}

TEST(SequenceCache, SlidingGivesBackWhatNoTokenReads) {
  const CacheLayout layout = make_cache_layout(repeat({Kind::kWindow, 64, 40}, 2));
  BlockPool pool(100);
  SequenceCache cache(layout, pool);
  const int64_t block = layout.groups[0].block;
  ASSERT_TRUE(cache.reserve(10 * block));
  EXPECT_EQ(pool.free_pages(), 90);
  cache.slide(39);
  EXPECT_EQ(pool.free_pages(), 90);  // position 39 reads token 0
  cache.slide(39 + block - 1);       // reads token block - 1, the last of the first block
  EXPECT_EQ(pool.free_pages(), 90);
  cache.slide(39 + block);
  EXPECT_EQ(pool.free_pages(), 91);
  std::vector<int32_t> pages;
  cache.append_pages(0, pages);
  ASSERT_EQ(pages.size(), 10u);
  EXPECT_EQ(pages[0], -1);
  EXPECT_GE(pages[1], 0);
  EXPECT_TRUE(cache.valid_at(39 + block));
  EXPECT_FALSE(cache.valid_at(39));
  EXPECT_FALSE(cache.valid_at(10 * block + 1));  // never computed
}

// Sequences of random lengths, steps, rewinds and restarts: the pages of pages_for() are enough, and all tokens that a
// step reads or writes have a page.
TEST(SequenceCache, OneSequenceNeverNeedsMoreThanPlanned) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    const int64_t window = 1 + random() % 90;
    const CacheLayout layout = make_cache_layout(mixed(1 + random() % 8, random() % 3, 64, window));
    const int64_t context = 1 + random() % 400, step = 1 + random() % 100;
    BlockPool pool(layout.pages_for(context, step));
    std::optional<SequenceCache> cache(std::in_place, layout, pool);
    int64_t computed = 0;
    for (int i = 0; i < 40; ++i) {
      if (computed == context || random() % 10 == 0) {
        const int64_t to = random() % (computed + 1);
        computed = cache->valid_at(to) ? to : 0;
        if (computed == 0) cache.emplace(layout, pool);
        cache->truncate(computed);
      }
      const int64_t rows = std::min<int64_t>(1 + random() % step, context - computed);
      if (rows == 0) continue;
      cache->slide(computed);
      ASSERT_TRUE(cache->reserve(computed + rows));
      for (size_t g = 0; g < layout.groups.size(); ++g) {
        std::vector<int32_t> pages;
        cache->append_pages(g, pages);
        const CacheGroup& group = layout.groups[g];
        const int64_t first =
            group.need.kind == Kind::kWindow ? std::max<int64_t>(0, computed - group.need.window + 1) : 0;
        for (int64_t t = first; t < computed + rows; ++t) ASSERT_GE(pages[static_cast<size_t>(t / group.block)], 0);
      }
      computed += rows;
      ASSERT_TRUE(cache->valid_at(computed));
      pool.check();
    }
  }
}

}  // namespace
}  // namespace baize
