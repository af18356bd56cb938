#include "engine/cache_layout.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"

namespace baize {

namespace {

constexpr int64_t kPageAlignment = 256;  // bytes

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The longest block of a group that fits a page.
int64_t block_in_page(const CacheGroup& group, int64_t page_bytes) {
  if (group.fixed()) return kMaxBlock;
  int64_t block = kMaxBlock;
  while (block > 0 && group.page_bytes(block) > page_bytes) block -= kMinBlock;
  return block;
}

// Share of a page that a group's block leaves unused; the worst group counts.
double waste(std::span<const CacheGroup> groups, int64_t page_bytes) {
  double worst = 0;
  for (const CacheGroup& group : groups) {
    if (group.fixed()) continue;
    const int64_t used = group.page_bytes(block_in_page(group, page_bytes));
    worst = std::max(worst, 1.0 - static_cast<double>(used) / static_cast<double>(page_bytes));
  }
  return worst;
}

// The widest group gets a short block, the others the longest that fits beside it.
void choose_blocks(CacheLayout& layout) {
  int64_t fixed = 0;
  for (const CacheGroup& group : layout.groups) {
    if (group.fixed()) fixed = std::max(fixed, group.need.bytes);
  }
  int64_t best = 0;
  for (int64_t block = kMinBlock; block <= kUsualBlock; block += kMinBlock) {
    int64_t widest = fixed;
    for (const CacheGroup& group : layout.groups) widest = std::max(widest, group.page_bytes(block));
    const int64_t candidate = round_up(widest, kPageAlignment);
    if (best == 0 || waste(layout.groups, candidate) <= waste(layout.groups, best)) best = candidate;
  }
  layout.page_bytes = best;
  for (CacheGroup& group : layout.groups) group.block = block_in_page(group, best);
}

}  // namespace

CacheLayout make_cache_layout(std::span<const StateNeed> needs) {
  CacheLayout layout;
  for (const StateNeed& need : needs) {
    auto group = std::find_if(layout.groups.begin(), layout.groups.end(),
                              [&](const CacheGroup& candidate) { return candidate.need == need; });
    if (group == layout.groups.end()) group = layout.groups.insert(group, CacheGroup{need, 0, 0});
    layout.states.push_back({static_cast<int>(group - layout.groups.begin()), group->states++});
  }
  if (layout.groups.size() > static_cast<size_t>(kMaxCacheGroups)) {
    fail(ErrorKind::kUnsupported,
         "the model's layers need {} kinds of cache (sizes and windows), and at most {} can be served together",
         layout.groups.size(), kMaxCacheGroups);
  }
  if (!layout.groups.empty()) choose_blocks(layout);
  return layout;
}

bool CacheLayout::has_fixed() const {
  return std::any_of(groups.begin(), groups.end(), [](const CacheGroup& group) { return group.fixed(); });
}

int64_t CacheLayout::pages_for(int64_t tokens, int64_t step) const {
  int64_t pages = 0;
  for (const CacheGroup& group : groups) {
    const int64_t all = group.pages(tokens);
    if (group.need.kind == StateNeed::Kind::kWindow) {
      // A step reads window - 1 tokens behind its first row; both ends may lie inside a block.
      const int64_t held = group.need.window - 1 + step;
      pages += std::min(all, (held + group.block - 2) / group.block + 1);
    } else {
      pages += all;
    }
  }
  return pages;
}

std::vector<StatePlace> CacheLayout::places(void* base, Place place, int64_t pages) const {
  std::vector<StatePlace> result;
  result.reserve(states.size());
  for (const StateSlot& slot : states) {
    const CacheGroup& group = groups[static_cast<size_t>(slot.group)];
    const int64_t offset = group.fixed() ? 0 : slot.index * group.need.page_bytes(group.block);
    void* data = base == nullptr ? nullptr : static_cast<std::byte*>(base) + offset;
    result.push_back({data, place, pages, page_bytes, group.block, slot.group, group.fixed() ? slot.index : 0});
  }
  return result;
}

}  // namespace baize
