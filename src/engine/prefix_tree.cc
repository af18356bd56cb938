#include "engine/prefix_tree.h"

#include <algorithm>

#include "base/check.h"
#include "base/mutate.h"

namespace baize {

namespace {

// Orders texts such that those with the longest common beginning are neighbours.
struct BeforeInOrder {
  using is_transparent = void;
  bool operator()(std::span<const Token> a, std::span<const Token> b) const {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  }
};

int64_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

struct PrefixTree::Node {
  Nodes::iterator self;
  Node* parent = nullptr;  // null: a root, or no longer found from one
  std::vector<Token> tokens;
  std::map<std::span<const Token>, Node*, BeforeInOrder> children;  // by the child's own tokens
  BlockPool::Ref page;
  SeqId owner;
  int pins = 0;  // paths that end here
  size_t group = 0;
};

PrefixTree::PrefixTree(const CacheLayout& layout, BlockPool& pool) : layout_(layout), pool_(pool) {
  for (size_t g = 0; g < layout.groups.size(); ++g) {
    Node& root = bare_.emplace_back();
    root.self = std::prev(bare_.end());
    root.group = g;
    root.pins = 1;
    roots_.push_back(&root);
  }
}

PrefixTree::~PrefixTree() {
  for (Node& node : held_) pool_.set_cached(node.page, false);
}

bool PrefixTree::per_token(size_t group) const { return layout_.groups[group].need.kind == StateNeed::Kind::kPerToken; }

void PrefixTree::walk(size_t group, std::span<const Token> tokens, Match::Chain& chain) const {
  const auto block = static_cast<size_t>(layout_.groups[group].block);
  const Node* node = roots_[group];
  for (; tokens.size() >= block; tokens = tokens.subspan(block)) {
    const auto found = node->children.find(tokens.first(block));
    if (found == node->children.end()) break;
    chain.nodes.push_back(found->second);
    node = found->second;
  }
  if (tokens.empty()) return;
  const auto rest = tokens.first(std::min(block, tokens.size()));
  const auto after = node->children.lower_bound(rest);
  const auto consider = [&](Node* candidate) {
    const int64_t shared = common_prefix(rest, candidate->tokens);
    if (shared <= chain.last_tokens || !candidate->page) return;
    chain.last = candidate;
    chain.last_tokens = shared;
  };
  if (after != node->children.end()) consider(after->second);
  if (after != node->children.begin()) consider(std::prev(after)->second);
}

// The longest prefix of at most `tokens` tokens that the group can continue from.
int64_t PrefixTree::longest_valid(size_t group, const Match::Chain& chain, int64_t tokens) const {
  const CacheGroup& g = layout_.groups[group];
  tokens = std::min(tokens, static_cast<int64_t>(chain.nodes.size()) * g.block + chain.last_tokens);
  const auto held = [&](int64_t b) {
    const auto at = static_cast<size_t>(b);
    return at < chain.nodes.size() ? static_cast<bool>(chain.nodes[at]->page) : chain.last != nullptr;
  };
  // A missing block ends the prefix in front of it; then the blocks that this shorter one needs are looked at.
  for (int64_t b = (tokens - 1) / g.block; tokens > 0; --b) {
    const int64_t first = mutated("prefix.window") ? tokens - 1 : SequenceCache::first_read(g, tokens);
    if (b < 0 || (b + 1) * g.block <= first) break;
    if (!held(b)) tokens = b * g.block;
  }
  return tokens;
}

PrefixTree::Match PrefixTree::match(std::span<const Token> tokens, int64_t most) const {
  Match match;
  if (mutated("prefix.match")) return match;
  if (layout_.has_fixed()) {  // nothing is published
    match.chains.resize(roots_.size());
    return match;
  }
  tokens = tokens.first(static_cast<size_t>(std::clamp<int64_t>(most, 0, static_cast<int64_t>(tokens.size()))));
  match.tokens = roots_.empty() ? 0 : static_cast<int64_t>(tokens.size());
  match.chains.resize(roots_.size());
  for (size_t g = 0; g < roots_.size(); ++g) walk(g, tokens, match.chains[g]);
  for (int64_t before = -1; before != match.tokens;) {
    before = match.tokens;
    for (size_t g = 0; g < roots_.size(); ++g) match.tokens = longest_valid(g, match.chains[g], match.tokens);
  }
  return match;
}

bool PrefixTree::adopt(const Match& match, SequenceCache& cache, Path& path) {
  start(path);
  std::vector<BlockPool::Ref> sources(roots_.size());  // of the blocks to copy
  for (size_t g = 0; g < roots_.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    const Match::Chain& chain = match.chains[g];
    const int64_t first = SequenceCache::first_read(group, match.tokens) / group.block;
    const int64_t full = match.tokens / group.block;
    for (int64_t b = 0; b < full; ++b) {
      cache.append(g, b < first ? BlockPool::Ref() : chain.nodes[static_cast<size_t>(b)]->page.share());
    }
    if (full > 0) move(path.steps[g], chain.nodes[static_cast<size_t>(full - 1)], full);
    if (full * group.block == match.tokens) continue;
    Node* from = static_cast<size_t>(full) < chain.nodes.size() ? chain.nodes[static_cast<size_t>(full)] : chain.last;
    sources[g] = from->page.share();
    held_.splice(held_.end(), held_, from->self);
  }
  touch(path);
  for (size_t g = 0; g < roots_.size(); ++g) {
    if (!sources[g]) continue;
    BlockPool::Ref page = pool_.take();
    if (!page && evict()) page = pool_.take();
    if (!page) {
      cache.clear();
      leave(path);
      return false;
    }
    cache.append(g, std::move(page));
    cache.copy_into_last(g, std::move(sources[g]));
  }
  return true;
}

void PrefixTree::move(Path::Step& step, Node* node, int64_t blocks) {
  ++node->pins;
  --step.node->pins;
  step = {node, blocks};
}

void PrefixTree::start(Path& path) {
  if (!path.steps.empty()) return;
  for (Node* root : roots_) {
    path.steps.push_back({root, 0});
    ++root->pins;
  }
}

// The child of these tokens, made if need be.
PrefixTree::Node* PrefixTree::child(Node& parent, std::span<const Token> tokens) {
  if (const auto found = parent.children.find(tokens); found != parent.children.end()) return found->second;
  Node& node = bare_.emplace_back();
  node.self = std::prev(bare_.end());
  node.parent = &parent;
  node.tokens.assign(tokens.begin(), tokens.end());
  node.group = parent.group;
  parent.children.emplace(node.tokens, &node);
  return &node;
}

void PrefixTree::put(Node& node, SeqId owner, const BlockPool::Ref& page) {
  if (node.page || !page) return;  // who came first stays; blocks that slid out have nothing to give
  node.page = page.share();
  node.owner = owner;
  pool_.set_cached(node.page, true);
  held_.splice(held_.end(), bare_, node.self);
}

void PrefixTree::drop_page(Node& node) {
  pool_.set_cached(node.page, false);
  node.page = BlockPool::Ref();
  bare_.splice(bare_.end(), held_, node.self);
  drop_if_unused(&node);
}

// Nodes whose only use was to lead to `node` go with it.
void PrefixTree::drop_if_unused(Node* node) {
  while (node != nullptr && !node->page && node->children.empty() && node->pins == 0) {
    Node* parent = node->parent;
    if (parent != nullptr) parent->children.erase(node->tokens);
    bare_.erase(node->self);
    node = parent;
  }
}

// Unfinished blocks that say no more than `tokens` does.
void PrefixTree::drop_covered(Node& parent, std::span<const Token> tokens) {
  const auto after = parent.children.lower_bound(tokens);
  if (after == parent.children.begin()) return;
  Node& before = *std::prev(after)->second;
  const auto size = static_cast<int64_t>(before.tokens.size());
  const bool covered = size < static_cast<int64_t>(tokens.size()) && common_prefix(before.tokens, tokens) == size;
  if (covered && before.page && before.pins == 0) drop_page(before);
}

void PrefixTree::publish(SeqId owner, std::span<const Token> tokens, const SequenceCache& cache, Path& path) {
  start(path);
  if (layout_.has_fixed()) return;
  for (size_t g = 0; g < roots_.size(); ++g) {
    Path::Step& step = path.steps[g];
    const int64_t block = layout_.groups[g].block;
    while ((step.blocks + 1) * block <= static_cast<int64_t>(tokens.size())) {
      const auto own = tokens.subspan(static_cast<size_t>(step.blocks * block), static_cast<size_t>(block));
      Node* node = child(*step.node, own);
      put(*node, owner, cache.page(g, step.blocks));
      drop_covered(*step.node, own);
      move(step, node, step.blocks + 1);
    }
  }
}

void PrefixTree::finish(SeqId owner, std::span<const Token> tokens, const SequenceCache& cache, Path& path) {
  publish(owner, tokens, cache, path);
  for (size_t g = 0; g < roots_.size() && !layout_.has_fixed(); ++g) {
    const Path::Step& step = path.steps[g];
    const auto rest = tokens.subspan(static_cast<size_t>(step.blocks * layout_.groups[g].block));
    if (rest.empty() || !cache.page(g, step.blocks)) continue;
    const auto after = step.node->children.lower_bound(rest);
    const bool known = after != step.node->children.end() && after->second->page &&
                       common_prefix(rest, after->second->tokens) == static_cast<int64_t>(rest.size());
    if (known) {  // a longer block begins with the same tokens
      held_.splice(held_.end(), held_, after->second->self);
      continue;
    }
    put(*child(*step.node, rest), owner, cache.page(g, step.blocks));
    drop_covered(*step.node, rest);
  }
  touch(path);
  leave(path);
}

void PrefixTree::disown(SeqId owner, Path& path) {
  for (const Path::Step& step : path.steps) {
    Node* top = nullptr;
    for (Node* node = step.node; node->parent != nullptr; node = node->parent) {
      if (node->owner == owner) top = node;
    }
    if (top == nullptr) continue;
    Node* parent = top->parent;
    parent->children.erase(top->tokens);
    top->parent = nullptr;  // it and all below it are found no more, and go by eviction
    drop_if_unused(parent);
  }
  leave(path);
}

// What was used last is evicted last, and a block before the ones it leads on from.
void PrefixTree::touch(const Path& path) {
  for (size_t g = 0; g < path.steps.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    Node* node = path.steps[g].node;
    int64_t left = path.steps[g].blocks;
    if (!per_token(g)) left = std::min(left, (group.need.window + group.block - 1) / group.block + 1);
    for (; left > 0 && node->parent != nullptr; --left, node = node->parent) {
      if (node->page) held_.splice(held_.end(), held_, node->self);
    }
  }
}

void PrefixTree::leave(Path& path) {
  for (const Path::Step& step : path.steps) {
    --step.node->pins;
    drop_if_unused(step.node);
  }
  path.steps.clear();
}

bool PrefixTree::evict() {
  if (pool_.idle_pages() == 0) return false;
  for (const bool leaves_only : {true, false}) {
    for (size_t tries = held_.size(); tries > 0; --tries) {
      Node& node = held_.front();
      const bool leads_on = leaves_only && per_token(node.group) && !node.children.empty();
      if (pool_.refs(node.page.page()) == 1 && !leads_on) {
        drop_page(node);
        return true;
      }
      held_.splice(held_.end(), held_, node.self);  // its turn comes again
    }
  }
  BAIZE_UNREACHABLE("idle pages, but none to evict");
}

int64_t PrefixTree::pages_in_use(const Match& match) const {
  int64_t pages = 0;
  for (size_t g = 0; g < match.chains.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    for (int64_t b = SequenceCache::first_read(group, match.tokens) / group.block; b < match.tokens / group.block;
         ++b) {
      pages += pool_.refs(match.chains[g].nodes[static_cast<size_t>(b)]->page.page()) > 1;
    }
  }
  return pages;
}

void PrefixTree::count_refs(std::vector<int32_t>& refs) const {
  for (const Node& node : held_) ++refs[static_cast<size_t>(node.page.page())];
}

void PrefixTree::check() const {
  for (const Nodes* list : {&held_, &bare_}) {
    for (const Node& node : *list) {
      BAIZE_CHECK(static_cast<bool>(node.page) == (list == &held_));
      BAIZE_CHECK(node.page || node.pins > 0 || !node.children.empty());
      BAIZE_CHECK(node.pins >= 0);
      if (node.parent == nullptr) continue;
      const auto found = node.parent->children.find(node.tokens);
      BAIZE_CHECK(found != node.parent->children.end() && found->second == &node);
      BAIZE_CHECK(node.group == node.parent->group);
      const auto block = static_cast<size_t>(layout_.groups[node.group].block);
      BAIZE_CHECK(node.tokens.size() == block || (node.tokens.size() < block && node.children.empty()));
    }
  }
  BAIZE_CHECK(pool_.idle_pages() <= held_pages());
}

}  // namespace baize
