#include "engine/step_plan.h"

#include <algorithm>

#include "base/check.h"

namespace baize {

void StepPlan::add(Sequence& sequence, int64_t count, Want want) {
  const int64_t first = sequence.n_planned, end = first + count, row = rows();
  BAIZE_CHECK(count > 0 && end <= sequence.target());
  parts.push_back({.seq = sequence.id, .first = first, .rows = count});
  const int64_t known = std::min(end, sequence.size());
  if (first < known) ids.insert(ids.end(), sequence.tokens.begin() + first, sequence.tokens.begin() + known);
  ids.resize(static_cast<size_t>(row + count), kTokenInFlight);
  for (size_t g = 0; g < sequence.cache.groups(); ++g) {
    page_counts[g].push_back(sequence.cache.blocks(g));
    sequence.cache.append_pages(g, pages[g]);
  }
  if (first == sequence.n_computed) {
    for (const SequenceCache::Copy& copy : sequence.cache.copies) copies.push_back({copy.from.page(), copy.to});
  }
  StepPart& part = parts.back();
  const int64_t undrawn = row + count - (want.draw ? 1 : 0);
  BAIZE_CHECK(want.scores <= undrawn - row);
  if (want.draw) {
    part.draw = static_cast<int64_t>(draw_rows.size());
    draw_rows.push_back(static_cast<int32_t>(row + count - 1));
    ++sequence.n_drawing;
  }
  part.first_score = static_cast<int64_t>(score_rows.size());
  part.scores = want.scores;
  for (int64_t i = undrawn - want.scores; i < undrawn; ++i) score_rows.push_back(static_cast<int32_t>(i));
  sequence.n_planned = end;
}

StepPlan StepPlan::only(size_t index) const {
  StepPlan plan;
  StepPart part = parts[index];
  int64_t row = 0;
  for (size_t i = 0; i < index; ++i) row += parts[i].rows;
  plan.ids.assign(ids.begin() + row, ids.begin() + row + part.rows);
  for (size_t g = 0; g < pages.size(); ++g) {
    if (page_counts[g].empty()) continue;
    int64_t at = 0;
    for (size_t i = 0; i < index; ++i) at += page_counts[g][i];
    const int64_t count = page_counts[g][index];
    plan.page_counts[g] = {count};
    plan.pages[g].assign(pages[g].begin() + at, pages[g].begin() + at + count);
  }
  if (part.draw >= 0) {
    plan.draw_rows.push_back(static_cast<int32_t>(draw_rows[static_cast<size_t>(part.draw)] - row));
    plan.draws.push_back(draws[static_cast<size_t>(part.draw)]);
    part.draw = 0;
  }
  for (int64_t i = 0; i < part.scores; ++i) {
    plan.score_rows.push_back(static_cast<int32_t>(score_rows[static_cast<size_t>(part.first_score + i)] - row));
  }
  part.first_score = 0;
  plan.parts.push_back(part);
  return plan;
}

}  // namespace baize
