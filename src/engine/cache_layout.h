// CacheLayout: how the cached states of a model share one pool of equal pages. Equal StateNeeds form a group; a page of
// a group holds `block` tokens of every state in it, one state after the other. Groups need different bytes a token, so
// each has its own block length, chosen such that their pages come out (nearly) equal. Plain data, made once; any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/state.h"

namespace baize {

struct CacheGroup {
  StateNeed need;      // of each of its states
  int64_t states = 0;  // states in the group
  int64_t block = 0;   // tokens a page

  /// States of fixed size: the sequence has one page a state, in their order, from its first token to its last.
  bool fixed() const { return need.kind == StateNeed::Kind::kFixed; }
  /// Rounded up where a state keeps one entry for several tokens.
  int64_t token_bytes() const { return fixed() ? 0 : (states * need.bytes + need.stride - 1) / need.stride; }
  int64_t page_bytes(int64_t tokens) const { return fixed() ? 0 : states * need.page_bytes(tokens); }
  /// Pages of a sequence that has places for `tokens` tokens, none of which slid out.
  int64_t pages(int64_t tokens) const { return fixed() ? states : (tokens + block - 1) / block; }
};

struct CacheLayout {
  struct StateSlot {
    int group = 0;
    int64_t index = 0;  // among the states of its group
  };

  std::vector<CacheGroup> groups;  // at most kMaxCacheGroups
  std::vector<StateSlot> states;   // one a state of the model, in its order
  int64_t page_bytes = 0;

  /// Whether a group is fixed(): its state is that of the last computed token only, so that no other text can begin
  /// with it.
  bool has_fixed() const;
  /// Pages that one sequence of `tokens` tokens, computed in steps of at most `step` rows, holds at most.
  int64_t pages_for(int64_t tokens, int64_t step) const;
  /// Where every state lives in a pool of `pages` pages at `base` (null in a dry run).
  std::vector<StatePlace> places(void* base, Place place, int64_t pages) const;
};

inline constexpr int64_t kMinBlock = 16;   // tokens a page; block lengths are multiples of it
inline constexpr int64_t kMaxBlock = 128;  // narrow groups beside wide ones take longer blocks than usual
inline constexpr int64_t kUsualBlock = 32;

/// Throws Error(kUnsupported) when the states form more than kMaxCacheGroups groups. `needs` may be empty.
CacheLayout make_cache_layout(std::span<const StateNeed> needs);

}  // namespace baize
