// Sequence: the tokens of one text being computed and the cache pages that hold its state. A step advances n_planned
// toward tokens.size(), and n_computed follows when it is done; there is no other phase. Owned by the scheduler (or a
// test); used under the engine's lock only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "engine/block_pool.h"
#include "engine/cache_layout.h"

namespace baize {

using SeqId = Id<struct SeqTag>;

/// The pages of one sequence: for each cache group, one page a logical block. Blocks that slid out of a window are
/// empty. Pages may be shared with the prefix tree and other sequences; a shared page is full and never written.
class SequenceCache {
 public:
  /// A page to fill with another's content before anything else is computed. Holds the source until then.
  struct Copy {
    BlockPool::Ref from;
    int32_t to;
  };

  /// `layout` and `pool` must outlive it.
  SequenceCache(const CacheLayout& layout, BlockPool& pool);

  /// Takes pages until tokens [0, tokens) have places. False when the pool ran out: what was taken so far stays.
  bool reserve(int64_t tokens);
  /// Gives back the blocks that no token at or behind position `next` reads.
  void slide(int64_t next);
  /// Gives back the blocks that lie wholly at or behind position `tokens`.
  void truncate(int64_t tokens);
  /// Gives back everything.
  void clear();
  /// Appends a block; an empty Ref is one that slid out.
  void append(size_t group, BlockPool::Ref page) { tables_[group].push_back(std::move(page)); }
  /// The last block of the group begins as a copy of `from`'s page.
  void copy_into_last(size_t group, BlockPool::Ref from);

  /// Whether all that a token at position `tokens` reads is still there.
  bool valid_at(int64_t tokens) const;
  /// Tokens [0, n) that have places, in every group.
  int64_t covered() const;
  /// Pages of the group's blocks in order, -1 for those that slid out.
  void append_pages(size_t group, std::vector<int32_t>& out) const;
  const BlockPool::Ref& page(size_t group, int64_t block) const { return tables_[group][static_cast<size_t>(block)]; }
  size_t groups() const { return tables_.size(); }
  int64_t blocks(size_t group) const { return static_cast<int64_t>(tables_[group].size()); }
  /// Pages held, shared ones too; those copied from not counted.
  int64_t held() const;

  std::vector<Copy> copies;  // to be done by the next step

  /// The first token that a token at `position` reads.
  static int64_t first_read(const CacheGroup& group, int64_t position);

 private:
  const CacheLayout& layout_;
  BlockPool& pool_;
  std::vector<std::vector<BlockPool::Ref>> tables_;  // [group][block]
};

struct Sequence {
  Sequence(SeqId seq_id, std::vector<Token> ids, const CacheLayout& layout, BlockPool& pool)
      : id(seq_id), tokens(std::move(ids)), cache(layout, pool) {}

  SeqId id;
  std::vector<Token> tokens;  // the prompt, then what was drawn
  int64_t n_computed = 0;     // tokens whose state is in the cache
  int64_t n_planned = 0;      // those that will be, once the plans in flight are done
  int64_t n_drawing = 0;      // draws in flight: tokens behind `tokens` that exist, but are not known yet
  SequenceCache cache;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  /// The tokens of [0, n_computed).
  std::span<const Token> computed() const { return std::span(tokens).first(static_cast<size_t>(n_computed)); }
  /// Tokens to plan for: those in flight included.
  int64_t target() const { return size() + n_drawing; }
};

}  // namespace baize
