// PrefixTree: the blocks of cache that all texts share. Each cache group has a tree of its own; a node is one block,
// found by the tokens from the beginning of the text through its end. Full blocks of running sequences are published
// as they are computed, the unfinished last one when its sequence ends. A block that no sequence refers to stays until
// its page is wanted: least recently used first. Owned by the scheduler; used under the engine's lock only.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/sequence.h"

namespace baize {

class PrefixTree {
 public:
  struct Node;

  /// Where a sequence stands: the node of its last published block, one a group. Keeps these nodes in the trees.
  struct Path {
    struct Step {
      Node* node = nullptr;
      int64_t blocks = 0;  // from the root to it
    };
    std::vector<Step> steps;  // [groups]; empty: nothing adopted or published yet
  };

  /// A prefix that is held. Valid until the tree changes.
  struct Match {
    struct Chain {
      std::vector<Node*> nodes;  // full blocks
      Node* last = nullptr;      // a block of which only the first `last_tokens` tokens agree
      int64_t last_tokens = 0;
    };
    int64_t tokens = 0;
    std::vector<Chain> chains;  // [groups]; may reach further than `tokens`
  };

  /// `layout` and `pool` must outlive it.
  PrefixTree(const CacheLayout& layout, BlockPool& pool);
  ~PrefixTree();
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  /// The longest prefix of `tokens`, of at most `most` tokens, such that every group still holds all that the token
  /// behind it reads (of a window: the last tokens only).
  Match match(std::span<const Token> tokens, int64_t most) const;

  /// Gives the empty `cache` the blocks of a match: full ones shared, and the last one as a page of its own to copy
  /// into. False when there was no page for that: the cache is empty again.
  bool adopt(const Match& match, SequenceCache& cache, Path& path);

  /// Publishes the full blocks that hold `tokens` (all computed) and are not yet on the path. `owner`: who computed.
  void publish(SeqId owner, std::span<const Token> tokens, const SequenceCache& cache, Path& path);
  /// The sequence ends: its last, unfinished block is published, too, and what it used counts as used now.
  void finish(SeqId owner, std::span<const Token> tokens, const SequenceCache& cache, Path& path);
  /// The sequence ends, and what it computed is not to be trusted: no later match finds it.
  void disown(SeqId owner, Path& path);

  /// Frees the page that was used least recently. False when sequences refer to all of them.
  bool evict();

  /// Pages that adopting the match would share with sequences that use them now anyway.
  int64_t pages_in_use(const Match& match) const;

  int64_t held_pages() const { return static_cast<int64_t>(held_.size()); }

  /// Aborts unless nodes, pages and marks agree.
  void check() const;
  /// Adds the trees' references to those counted for every page.
  void count_refs(std::vector<int32_t>& refs) const;

 private:
  using Nodes = std::list<Node>;

  bool per_token(size_t group) const;
  void walk(size_t group, std::span<const Token> tokens, Match::Chain& chain) const;
  int64_t longest_valid(size_t group, const Match::Chain& chain, int64_t tokens) const;
  Node* child(Node& parent, std::span<const Token> tokens);
  void put(Node& node, SeqId owner, const BlockPool::Ref& page);
  void drop_page(Node& node);
  void drop_covered(Node& parent, std::span<const Token> tokens);
  void drop_if_unused(Node* node);
  void start(Path& path);
  static void move(Path::Step& step, Node* node, int64_t blocks);
  void touch(const Path& path);
  void leave(Path& path);

  const CacheLayout& layout_;
  BlockPool& pool_;
  Nodes held_;                // nodes with a page, the least recently used first
  Nodes bare_;                // nodes without: roots, and blocks evicted from the middle of a text
  std::vector<Node*> roots_;  // [groups]
};

}  // namespace baize
