// PrefixTree: what was published is found again, token by token, as far as every group still holds what is needed; the
// least recently used goes first; nothing of a spoilt text is found.
#include "engine/prefix_tree.h"

#include <gtest/gtest.h>

#include <numeric>

#include "unit/engine_fake_runner.h"

namespace baize {
namespace {

using Kind = StateNeed::Kind;

std::vector<Token> text(Token first, int64_t length) {
  std::vector<Token> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

class PrefixTreeTest : public testing::Test {
 protected:
  // A pool and a tree; sequences come and go.
  struct World {
    explicit World(CacheLayout l, int64_t pages) : layout(std::move(l)), pool(pages), tree(layout, pool) {}
    CacheLayout layout;
    BlockPool pool;
    PrefixTree tree;

    /// Computes a text and ends, in steps of `step` tokens.
    void compute(int64_t id, const std::vector<Token>& tokens, bool spoilt = false, int64_t step = 1000) {
      SequenceCache cache(layout, pool);
      PrefixTree::Path path;
      const auto computed = [&](int64_t n) { return std::span(tokens).first(static_cast<size_t>(n)); };
      for (int64_t done = 0; done < std::ssize(tokens);) {
        cache.slide(done);
        done = std::min(done + step, std::ssize(tokens));
        while (!cache.reserve(done)) ASSERT_TRUE(tree.evict());
        tree.publish(SeqId{id}, computed(done), cache, path);
      }
      if (spoilt) {
        tree.disown(SeqId{id}, path);
      } else {
        tree.finish(SeqId{id}, tokens, cache, path);
      }
      check();
    }
    int64_t found(const std::vector<Token>& tokens) const {
      return tree.match(tokens, static_cast<int64_t>(tokens.size())).tokens;
    }
    void check() const {
      pool.check();
      tree.check();
    }
  };
};

std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(PrefixTreeTest, FindsTheLongestCommonBeginning) {
  World w(test::per_token_layout(4), 32);
  w.compute(0, text(0, 10));
  EXPECT_EQ(w.tree.held_pages(), 3);
  EXPECT_EQ(w.pool.idle_pages(), 3);
  EXPECT_EQ(w.found(text(0, 20)), 10);  // the unfinished block, too
  EXPECT_EQ(w.found(text(0, 7)), 7);    // part of a full one
  EXPECT_EQ(w.found(joined(text(0, 5), {99, 6, 7})), 5);
  EXPECT_EQ(w.found(text(1, 9)), 0);
  EXPECT_EQ(w.found({}), 0);
  EXPECT_EQ(w.tree.match(text(0, 20), 6).tokens, 6);
  // A longer text takes over the unfinished block of the shorter one.
  w.compute(1, text(0, 15));
  EXPECT_EQ(w.found(text(0, 20)), 15);
  EXPECT_EQ(w.tree.held_pages(), 4);
  // Branches.
  w.compute(2, joined(text(0, 6), text(50, 6)));
  EXPECT_EQ(w.found(joined(text(0, 6), text(50, 9))), 12);
  EXPECT_EQ(w.found(text(0, 20)), 15);
}

TEST_F(PrefixTreeTest, SharesFullBlocksAndCopiesTheLast) {
  World w(test::per_token_layout(4), 8);
  w.compute(0, text(0, 10));
  SequenceCache cache(w.layout, w.pool);
  PrefixTree::Path path;
  ASSERT_TRUE(w.tree.adopt(w.tree.match(text(0, 9), 9), cache, path));
  EXPECT_EQ(cache.blocks(0), 3);
  EXPECT_EQ(w.pool.refs(cache.page(0, 0).page()), 2);
  EXPECT_EQ(w.pool.refs(cache.page(0, 2).page()), 1);  // its own
  ASSERT_EQ(cache.copies.size(), 1u);
  EXPECT_EQ(cache.copies[0].to, cache.page(0, 2).page());
  EXPECT_EQ(w.pool.refs(cache.copies[0].from.page()), 2);
  EXPECT_EQ(w.pool.idle_pages(), 0);
  EXPECT_FALSE(w.tree.evict());
  w.tree.finish(SeqId{1}, text(0, 9), cache, path);
  w.check();
}

TEST_F(PrefixTreeTest, AdoptsNothingWithoutAPageToCopyInto) {
  World w(test::per_token_layout(4), 3);
  w.compute(0, text(0, 10));
  SequenceCache holder(w.layout, w.pool), cache(w.layout, w.pool);
  PrefixTree::Path held, path;
  ASSERT_TRUE(w.tree.adopt(w.tree.match(text(0, 8), 8), holder, held));
  EXPECT_FALSE(w.tree.adopt(w.tree.match(text(0, 9), 9), cache, path));  // the only idle page is the one to copy
  EXPECT_EQ(cache.held(), 0);
  EXPECT_TRUE(path.steps.empty());
  w.tree.finish(SeqId{1}, text(0, 8), holder, held);
  w.check();
}

TEST_F(PrefixTreeTest, EvictsTheLeastRecentlyUsedLeaf) {
  World w(test::per_token_layout(4), 32);
  w.compute(0, text(0, 8));
  w.compute(1, text(100, 8));
  w.compute(2, text(200, 8));
  {  // the first is used again
    SequenceCache cache(w.layout, w.pool);
    PrefixTree::Path path;
    ASSERT_TRUE(w.tree.adopt(w.tree.match(text(0, 8), 8), cache, path));
    w.tree.finish(SeqId{3}, text(0, 8), cache, path);
  }
  ASSERT_TRUE(w.tree.evict());
  EXPECT_EQ(w.found(text(100, 8)), 4);  // its last block went, not its first
  ASSERT_TRUE(w.tree.evict());
  EXPECT_EQ(w.found(text(100, 8)), 0);
  ASSERT_TRUE(w.tree.evict());
  ASSERT_TRUE(w.tree.evict());
  EXPECT_EQ(w.found(text(200, 8)), 0);
  EXPECT_EQ(w.found(text(0, 8)), 8);
  w.check();
}

TEST_F(PrefixTreeTest, AWindowNeedsItsLastTokensOnly) {
  World w(test::layout_of({{{Kind::kWindow, 4, 6}, 4}}), 32);
  w.compute(0, text(0, 40), false, 4);
  EXPECT_EQ(w.found(text(0, 60)), 40);
  // Evicting from the front leaves the end usable, but nothing in front of it.
  while (w.pool.idle_pages() > 3) ASSERT_TRUE(w.tree.evict());
  EXPECT_EQ(w.found(text(0, 60)), 40);
  EXPECT_EQ(w.found(text(0, 36)), 36);
  EXPECT_EQ(w.found(text(0, 30)), 0);
  SequenceCache cache(w.layout, w.pool);
  PrefixTree::Path path;
  ASSERT_TRUE(w.tree.adopt(w.tree.match(text(0, 40), 40), cache, path));
  EXPECT_TRUE(cache.valid_at(40));
  EXPECT_EQ(cache.held(), 2);  // tokens 35 to 39
  w.tree.finish(SeqId{1}, text(0, 40), cache, path);
  w.check();
}

TEST_F(PrefixTreeTest, AHitMustHoldInEveryGroup) {
  World w(test::layout_of({{{Kind::kPerToken, 4, 0}, 8}, {{Kind::kWindow, 4, 6}, 4}}), 64);
  w.compute(0, text(0, 40), false, 4);
  EXPECT_EQ(w.found(text(0, 37)), 37);
  // The whole text goes; of the window's group the end is used last.
  int64_t before = 40;
  while (w.pool.idle_pages() > 0) {
    ASSERT_TRUE(w.tree.evict());
    const int64_t now = w.found(text(0, 40));
    EXPECT_LE(now, before);
    before = now;
    w.check();
  }
  EXPECT_EQ(before, 0);
}

TEST_F(PrefixTreeTest, NothingOfASpoiltTextIsFound) {
  World w(test::per_token_layout(4), 32);
  w.compute(0, text(0, 8));
  w.compute(1, text(0, 18), true);
  EXPECT_EQ(w.found(text(0, 18)), 8);
  w.compute(2, text(100, 9), true);
  EXPECT_EQ(w.found(text(100, 9)), 0);
  while (w.tree.evict()) w.check();
  EXPECT_EQ(w.pool.free_pages(), 32);
}

}  // namespace
}  // namespace baize
