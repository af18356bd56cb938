// StepPlan: one step of the engine as flat host arrays: which tokens of which sequences are computed, where their state
// lies, whose logits are wanted and how they are drawn from. There is no prefill and no decode: a sequence takes part
// with any number of rows. Made by the scheduler, completed (draws) by the engine, read by the Runner; it must not
// outlive what its spans view.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/sequence.h"
#include "ops/sample.h"
#include "ops/step_input.h"

namespace baize {

/// The share of one sequence: tokens [first, first + rows) of it are computed.
struct StepPart {
  SeqId seq;
  int64_t first = 0;
  int64_t rows = 0;
  int64_t draw = -1;        // index into draw_rows of the part's last row, or -1: no token is drawn behind it
  int64_t first_score = 0;  // index into score_rows of the first of `scores` rows
  int64_t scores = 0;       // the part's last rows, but for the drawn one, whose logits are handed out
};

/// A page of the cache takes over another's content before the step computes anything.
struct PageCopy {
  int32_t from = 0, to = 0;
};

/// In `ids`: the token that the plan before draws for the same sequence; the engine has not seen it yet.
inline constexpr Token kTokenInFlight = -1;

struct StepPlan {
  std::vector<StepPart> parts;
  std::vector<Token> ids;  // [rows], part after part
  /// Cache pages of the parts: `parts.size()` runs of page_counts entries each, one array a cache group.
  std::array<std::vector<int32_t>, kMaxCacheGroups> pages;
  std::array<std::vector<int64_t>, kMaxCacheGroups> page_counts;
  std::vector<PageCopy> copies;

  std::vector<int32_t> draw_rows;   // rows behind which a token is drawn
  std::vector<int32_t> score_rows;  // rows whose logits are handed out
  std::vector<SampleRow> draws;     // [draw_rows]: how; set by the engine
  std::vector<int32_t> raw_draws;   // indices of draw_rows whose logits are handed out as well, as they were before

  /// What is wanted of the rows added: a draw behind the last one, the logits of so many rows before (or of the last).
  struct Want {
    bool draw = false;
    int64_t scores = 0;
  };
  /// Adds the next `rows` tokens of `sequence` that are not planned yet, and counts them as planned. Its cache must
  /// have places for them.
  void add(Sequence& sequence, int64_t rows, Want want);
  /// The plan of one part alone, without copies and raw draws; the part's indices are those in the new plan.
  StepPlan only(size_t part) const;

  bool empty() const { return parts.empty(); }
  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
  int64_t out_rows() const { return static_cast<int64_t>(draw_rows.size() + score_rows.size()); }
};

/// What a step gives back.
struct StepResult {
  std::vector<Token> drawn;   // [draw_rows]; -1: the row's logits are not numbers, or forbid every token
  std::vector<float> scores;  // [score_rows, vocab]
  std::vector<float> raw;     // [raw_draws, vocab]
};

}  // namespace baize
