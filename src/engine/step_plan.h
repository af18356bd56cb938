// StepPlan: one step of the engine as flat host arrays: which tokens of which sequences are computed, where their state
// lies, whose logits are wanted and how they are drawn from. There is no prefill and no decode: a sequence takes part
// with any number of rows. Made by the engine thread, read by the Runner; it must not outlive what its spans view.
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
};

struct StepPlan {
  std::vector<StepPart> parts;
  std::vector<Token> ids;  // [rows], part after part
  /// Cache pages of the parts: `parts.size()` runs of page_counts entries each, one array a cache group.
  std::array<std::vector<int32_t>, kMaxCacheGroups> pages;
  std::array<std::vector<int64_t>, kMaxCacheGroups> page_counts;
  std::vector<int32_t> out_rows;  // rows whose logits are wanted, ascending
  std::vector<SampleRow> draws;   // one an out row: a token is drawn there; empty: the logits are handed out

  enum class Logits : uint8_t { kNone, kLast, kAll };
  /// Adds the next `rows` tokens of `sequence` that are not computed yet. Its cache must have places for them.
  void add(const Sequence& sequence, int64_t rows, Logits logits);
  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
};

/// What a step gives back.
struct StepResult {
  std::vector<Token> drawn;   // [draws]; -1: the row's logits are not numbers, or forbid every token
  std::vector<float> logits;  // [out_rows, vocab], if nothing was drawn
};

}  // namespace baize
