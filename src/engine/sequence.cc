#include "engine/sequence.h"

#include <algorithm>
#include <limits>

namespace baize {

SequenceCache::SequenceCache(const CacheLayout& layout, BlockPool& pool)
    : layout_(layout), pool_(pool), tables_(layout.groups.size()) {}

bool SequenceCache::reserve(int64_t tokens) {
  for (size_t g = 0; g < tables_.size(); ++g) {
    const int64_t wanted = layout_.groups[g].pages(tokens);
    while (blocks(g) < wanted) {
      BlockPool::Ref page = pool_.take();
      if (!page) return false;
      tables_[g].push_back(std::move(page));
    }
  }
  return true;
}

int64_t SequenceCache::first_read(const CacheGroup& group, int64_t position) {
  if (group.need.kind != StateNeed::Kind::kWindow) return 0;
  return std::max<int64_t>(0, position - group.need.window + 1);
}

void SequenceCache::slide(int64_t next) {
  for (size_t g = 0; g < tables_.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    // Backwards until the first block that slid out before: the ones in front of it did, too.
    if (group.fixed()) continue;
    const int64_t kept = std::min(first_read(group, next) / group.block, blocks(g));
    for (int64_t b = kept - 1; b >= 0 && tables_[g][static_cast<size_t>(b)]; --b) {
      tables_[g][static_cast<size_t>(b)] = BlockPool::Ref();
    }
  }
}

void SequenceCache::truncate(int64_t tokens) {
  for (size_t g = 0; g < tables_.size(); ++g) {
    const int64_t kept = layout_.groups[g].pages(tokens);
    if (kept < blocks(g)) tables_[g].resize(static_cast<size_t>(kept));
  }
}

void SequenceCache::clear() {
  copies.clear();
  for (std::vector<BlockPool::Ref>& table : tables_) table.clear();
}

void SequenceCache::copy_into_last(size_t group, BlockPool::Ref from) {
  copies.push_back({std::move(from), tables_[group].back().page()});
}

bool SequenceCache::valid_at(int64_t tokens) const {
  for (size_t g = 0; g < tables_.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    if (blocks(g) < group.pages(tokens)) return false;
    if (group.fixed()) continue;
    for (int64_t b = first_read(group, tokens) / group.block; b * group.block < tokens; ++b) {
      if (!tables_[g][static_cast<size_t>(b)]) return false;
    }
  }
  return true;
}

int64_t SequenceCache::covered() const {
  int64_t tokens = std::numeric_limits<int64_t>::max();
  for (size_t g = 0; g < tables_.size(); ++g) {
    const CacheGroup& group = layout_.groups[g];
    if (!group.fixed()) tokens = std::min(tokens, blocks(g) * group.block);
    if (group.fixed() && blocks(g) < group.states) tokens = 0;
  }
  return tokens;
}

void SequenceCache::append_pages(size_t group, std::vector<int32_t>& out) const {
  for (const BlockPool::Ref& page : tables_[group]) out.push_back(page.page());
}

int64_t SequenceCache::held() const {
  int64_t pages = 0;
  for (const auto& table : tables_) {
    for (const BlockPool::Ref& page : table) pages += static_cast<bool>(page);
  }
  return pages;
}

}  // namespace baize
