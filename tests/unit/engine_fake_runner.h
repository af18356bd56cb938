// FakeRunner: carries out StepPlans on a cache of hashes instead of keys and values. What a token leaves in the cache
// is the hash of the text up to it, and the token drawn behind a text is a function of its hash: so it can check that
// every row finds exactly its own text in the pages it reads, whoever computed them. One thread.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "engine/step_plan.h"

namespace baize::test {

/// One cache group a need, in blocks of the given lengths.
inline CacheLayout layout_of(const std::vector<std::pair<StateNeed, int64_t>>& groups) {
  CacheLayout layout;
  layout.page_bytes = 256;
  for (const auto& [need, block] : groups) {
    layout.states.push_back({static_cast<int>(layout.groups.size()), 0});
    layout.groups.push_back({need, 1, block});
  }
  return layout;
}
inline CacheLayout per_token_layout(int64_t block) { return layout_of({{{StateNeed::Kind::kPerToken, 4, 0}, block}}); }

inline uint64_t extend_hash(uint64_t hash, Token token) {
  hash = (hash ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

/// The token behind a text.
inline Token next_token(uint64_t hash, Token vocab) {
  return static_cast<Token>((hash >> 17) % static_cast<uint64_t>(vocab));
}

class FakeRunner {
 public:
  FakeRunner(const CacheLayout& layout, int64_t pages, Token vocab)
      : layout_(layout), vocab_(vocab), pages_(static_cast<size_t>(pages)) {
    int64_t longest = 0;
    for (const CacheGroup& group : layout.groups) longest = std::max(longest, group.block);
    for (auto& page : pages_) page.assign(static_cast<size_t>(longest), 0);
  }

  /// Makes a sequence known.
  void begin(SeqId seq, const std::vector<Token>& prompt) {
    Text& text = texts_[seq];
    for (const Token token : prompt) text.append(token);
  }

  /// Computes the step; returns the tokens drawn. Fails the test where a row does not find its text.
  std::vector<Token> run(const StepPlan& plan) {
    for (const PageCopy& copy : plan.copies)
      pages_.at(static_cast<size_t>(copy.to)) = pages_.at(static_cast<size_t>(copy.from));
    std::vector<Token> drawn(plan.draw_rows.size(), -1);
    std::array<int64_t, kMaxCacheGroups> table{};
    int64_t row = 0;
    for (size_t i = 0; i < plan.parts.size(); ++i) {
      const StepPart& part = plan.parts[i];
      Text& text = texts_.at(part.seq);
      // All rows of a step store before any reads, but a row reads none behind its own.
      for (int64_t r = 0; r < part.rows; ++r, ++row)
        compute(plan, i, table, part.first + r, plan.ids[static_cast<size_t>(row)]);
      for (size_t g = 0; g < layout_.groups.size(); ++g) table[g] += plan.page_counts[g][i];
      if (part.draw < 0) continue;
      EXPECT_EQ(plan.draw_rows[static_cast<size_t>(part.draw)], row - 1);
      const Token token = next_token(text.hashes[static_cast<size_t>(part.first + part.rows - 1)], vocab_);
      drawn[static_cast<size_t>(part.draw)] = token;
      if (text.size() == part.first + part.rows) text.append(token);  // else it is computed again after a preemption
    }
    EXPECT_EQ(row, plan.rows());
    return drawn;
  }

 private:
  struct Text {
    std::vector<Token> tokens;
    std::vector<uint64_t> hashes;  // of the text through each token
    void append(Token token) {
      tokens.push_back(token);
      hashes.push_back(extend_hash(hashes.empty() ? 1 : hashes.back(), token));
    }
    int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  };

  void compute(const StepPlan& plan, size_t part, const std::array<int64_t, kMaxCacheGroups>& table, int64_t position,
               Token token) {
    const Text& text = texts_.at(plan.parts[part].seq);
    ASSERT_LT(position, text.size());
    if (token != kTokenInFlight) ASSERT_EQ(token, text.tokens[static_cast<size_t>(position)]);
    for (size_t g = 0; g < layout_.groups.size(); ++g) {
      const int64_t block = layout_.groups[g].block;
      const auto slot = [&](int64_t p) -> uint64_t& {
        EXPECT_LT(p / block, plan.page_counts[g][part]);
        const int32_t page = plan.pages[g].at(static_cast<size_t>(table[g] + p / block));
        return pages_.at(static_cast<size_t>(page)).at(static_cast<size_t>(p % block));
      };
      slot(position) = text.hashes[static_cast<size_t>(position)];
      for (int64_t p = SequenceCache::first_read(layout_.groups[g], position); p < position; ++p) {
        ASSERT_EQ(slot(p), text.hashes[static_cast<size_t>(p)]) << "position " << p << " for " << position;
      }
    }
  }

  const CacheLayout& layout_;
  Token vocab_;
  std::vector<std::vector<uint64_t>> pages_;
  std::map<SeqId, Text> texts_;
};

}  // namespace baize::test
