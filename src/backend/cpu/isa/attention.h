// What the two attention kernels share: the rows of a key tile, and which of them a query sees. Included by files of
// backend/cpu/isa/ only; internal to the translation unit.
#pragma once

#include "backend/cpu/isa/ops_kernels.h"
#include "backend/cpu/isa/vec.h"

namespace baize::cpu::BAIZE_ISA {
namespace {

constexpr float kNone = -__builtin_inff();

/// Tokens [begin, end).
struct Range {
  int64_t begin, end;
  bool empty() const { return begin >= end; }
};

BAIZE_INLINE int64_t lower(int64_t a, int64_t b) { return a < b ? a : b; }
BAIZE_INLINE int64_t upper(int64_t a, int64_t b) { return a > b ? a : b; }

/// Keys that the token at `position` sees.
BAIZE_INLINE Range visible(const AttnTask& task, int64_t position) {
  return {task.window > 0 ? upper(0, position - task.window + 1) : 0, position + 1};
}

/// Keys that any row sees (positions ascend).
BAIZE_INLINE Range visible_to_rows(const AttnTask& task, int64_t first_row, int64_t last_row) {
  return {visible(task, task.positions[first_row]).begin, task.positions[last_row] + 1};
}

/// The part of a range inside the tile that begins at `tile_begin`, relative to that.
BAIZE_INLINE Range in_tile(Range range, int64_t tile_begin) {
  return {upper(0, range.begin - tile_begin), lower(kKeyTile, range.end - tile_begin)};
}

/// rows[t - tile_begin] = row of token t, for the tokens of `range` inside the tile; other entries are left alone.
template <typename Element>
void find_rows(const AttnTask& task, const HeadCache& cache, Range range, int64_t tile_begin,
               const Element* (&rows)[kKeyTile]) {
  int64_t t = tile_begin + range.begin;
  while (t < tile_begin + range.end) {
    const int64_t page = task.table[t / task.block];
    const int64_t first = t % task.block;
    const int64_t count = lower(task.block - first, tile_begin + range.end - t);
    const Element* row =
        static_cast<const Element*>(cache.data) + page * cache.page_stride + first * cache.token_stride;
    for (int64_t i = 0; i < count; ++i) rows[t - tile_begin + i] = row + i * cache.token_stride;
    t += count;
  }
}

/// scores = scale * scores, or softcap * tanh(scale * scores / softcap), over the vectors that hold `seen`.
BAIZE_INLINE void scale_scores(float* scores, Range seen, float scale, float softcap) {
  for (int64_t i = seen.begin / kLanes * kLanes; i < seen.end; i += kLanes) {
    const F32 v = load(scores + i);
    store(scores + i, softcap > 0 ? softcap * tanh(v * (scale / softcap)) : v * scale);
  }
}

/// Softmax numerators of one query over a tile, in place: scores become e^(score - highest), and 0 outside `seen`.
/// `scores` may be read and written up to the vectors that hold the ends of `seen`.
struct TileSums {
  float highest;
  float sum;
};
BAIZE_INLINE TileSums exponentiate(float* scores, Range seen, float highest_before) {
  const int64_t begin = seen.begin / kLanes * kLanes;
  const int64_t end = (seen.end + kLanes - 1) / kLanes * kLanes;
  for (int64_t i = begin; i < seen.begin; ++i) scores[i] = kNone;
  for (int64_t i = seen.end; i < end; ++i) scores[i] = kNone;
  F32 top = broadcast(highest_before);
  for (int64_t i = begin; i < end; i += kLanes) top = max(top, load(scores + i));
  const float highest_now = highest(top);
  const F32 base = broadcast(highest_now);
  F32 total = {};
  for (int64_t i = begin; i < end; i += kLanes) {
    const F32 p = exp(load(scores + i) - base);
    store(scores + i, p);
    total += p;
  }
  for (int64_t i = begin; i < seen.begin; ++i) scores[i] = 0;
  for (int64_t i = seen.end; i < end; ++i) scores[i] = 0;
  return {highest_now, sum(total)};
}

}  // namespace
}  // namespace baize::cpu::BAIZE_ISA
