#include "engine/step_plan.h"

#include "base/check.h"

namespace baize {

void StepPlan::add(const Sequence& sequence, int64_t count, Logits logits) {
  const int64_t first = sequence.n_computed;
  BAIZE_CHECK(count > 0 && first + count <= sequence.size());
  const int64_t row = rows();
  parts.push_back({sequence.id, first, count});
  ids.insert(ids.end(), sequence.tokens.begin() + first, sequence.tokens.begin() + first + count);
  for (size_t g = 0; g < sequence.cache.groups(); ++g) {
    page_counts[g].push_back(sequence.cache.blocks(g));
    sequence.cache.append_pages(g, pages[g]);
  }
  const int64_t wanted = logits == Logits::kAll ? count : logits == Logits::kLast ? 1 : 0;
  for (int64_t i = count - wanted; i < count; ++i) out_rows.push_back(static_cast<int32_t>(row + i));
}

}  // namespace baize
