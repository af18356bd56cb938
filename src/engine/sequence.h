// Sequence: the tokens of one text being computed and the cache pages that hold its state. A step advances n_computed
// toward tokens.size(); there is no other phase. Owned by the engine; used by the engine thread only.
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
/// empty.
class SequenceCache {
 public:
  /// `layout` and `pool` must outlive it.
  SequenceCache(const CacheLayout& layout, BlockPool& pool);

  /// Takes pages until tokens [0, tokens) have places. False when the pool ran out: what was taken so far stays.
  bool reserve(int64_t tokens);
  /// Gives back the blocks that no token at or behind position `next` reads.
  void slide(int64_t next);
  /// Gives back the blocks that lie wholly at or behind position `tokens`.
  void truncate(int64_t tokens);
  /// Whether all that a token at position `tokens` reads is still there.
  bool valid_at(int64_t tokens) const;
  /// Pages of the group's blocks in order, -1 for those that slid out.
  void append_pages(size_t group, std::vector<int32_t>& out) const;
  size_t groups() const { return tables_.size(); }
  int64_t blocks(size_t group) const { return static_cast<int64_t>(tables_[group].size()); }

 private:
  // The first token that a token at `position` reads.
  static int64_t first_read(const CacheGroup& group, int64_t position);

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
  SequenceCache cache;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

/// How many of `prompt`'s first tokens need no computing when it continues in the cache of `sequence`: those it shares
/// with the computed tokens, less the last one (its logits are wanted); 0 when a window no longer holds what they need.
int64_t reusable_tokens(const Sequence& sequence, std::span<const Token> prompt);

}  // namespace baize
