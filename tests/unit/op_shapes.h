// The shapes on which backends are compared with the reference, and which bench/ops_bench.cc times. Odd on purpose:
// head sizes off the vector width, ragged batches, windows that drop pages, page sizes that do not divide key tiles.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace baize::op_test {

/// A sequence of a step: `cached` tokens before it, `rows` in it.
struct SeqShape {
  int64_t cached;
  int64_t rows;
};

struct AttnCase {
  std::string name;
  AttnShape shape;
  std::vector<SeqShape> seqs;
  int64_t block = 32;  // tokens a page
  int64_t window = 0;
  float softcap = 0;
};

inline std::vector<AttnCase> attention_cases() {
  return {
      {"one_token", {1, 1, 16}, {{0, 1}}, 16},
      {"decode_smollm", {9, 3, 64}, {{100, 1}}},
      {"decode_tile_edge", {9, 3, 64}, {{127, 1}}, 16},
      {"decode_past_tile", {9, 3, 64}, {{128, 1}}, 16},
      {"decode_long", {32, 8, 64}, {{1500, 1}}, 80},
      {"decode_mha_80", {4, 4, 80}, {{333, 1}}, 80},
      {"decode_mqa_32_heads", {32, 1, 64}, {{200, 1}}},
      {"decode_dim_24", {6, 2, 24}, {{70, 1}}, 16},
      {"decode_dim_20", {6, 2, 20}, {{300, 1}}, 16},
      {"decode_dim_256_capped", {8, 4, 256}, {{270, 1}}, 32, 0, 50},
      {"decode_window", {4, 1, 64}, {{1000, 1}}, 32, 100},
      {"decode_window_shorter_than_page", {4, 2, 32}, {{1000, 1}}, 80, 5},
      {"decode_group_of_5", {5, 1, 40}, {{260, 1}}},
      {"few_rows", {8, 2, 64}, {{200, 4}}, 16},
      {"few_rows_window", {8, 2, 64}, {{380, 4}}, 16, 128},
      {"prefill_130", {9, 3, 64}, {{0, 130}}},
      {"prefill_17", {2, 1, 16}, {{0, 17}}, 16},
      {"prefill_after_cache", {6, 2, 128}, {{150, 70}}, 80},
      {"prefill_dim_24", {4, 4, 24}, {{3, 75}}, 16},
      {"prefill_dim_20", {3, 1, 20}, {{0, 140}}, 16},
      {"prefill_dim_80", {4, 2, 80}, {{60, 90}}},
      {"prefill_dim_256_capped", {4, 2, 256}, {{10, 60}}, 16, 0, 30},
      {"prefill_window", {4, 2, 64}, {{200, 130}}, 32, 50},
      {"prefill_window_capped", {4, 2, 32}, {{0, 300}}, 16, 129, 20},
      {"prefill_mqa", {32, 1, 64}, {{0, 40}}},
      {"ragged", {6, 3, 64}, {{0, 1}, {511, 1}, {0, 77}, {129, 3}, {64, 64}, {300, 1}}, 32},
      {"ragged_window", {4, 2, 48}, {{900, 1}, {0, 50}, {400, 20}, {257, 5}}, 16, 64},
      {"batch_of_decodes", {8, 2, 64}, {{10, 1}, {200, 1}, {0, 1}, {131, 1}, {640, 1}, {77, 1}, {12, 1}, {999, 1}}, 16},
  };
}

/// [rows, width] of the row-wise ops.
struct RowCase {
  int64_t rows;
  int64_t width;
};

inline std::vector<RowCase> row_cases() {
  return {{1, 1}, {1, 7}, {1, 64}, {1, 576}, {3, 100}, {130, 33}, {2, 8200}, {1, 16400}, {70, 576}, {5, 4096}};
}

struct RopeCase {
  std::string name;
  AttnShape shape;
  int64_t rot_dim;  // 0: no rotation
  bool interleaved = false;
  bool norms = false;
  float scale = 1;
  float dynamic_factor = 0;
  int64_t dynamic_length = 0;
  std::vector<SeqShape> seqs;
  int64_t block = 32;
};

inline std::vector<RopeCase> rope_cases() {
  const std::vector<SeqShape> one = {{77, 1}};
  const std::vector<SeqShape> ragged = {{0, 40}, {1000, 1}, {31, 3}};
  return {
      {"llama", {9, 3, 64}, 64, false, false, 1, 0, 0, one},
      {"no_rotation", {4, 2, 64}, 0, false, false, 1, 0, 0, ragged},
      {"qwen3", {16, 8, 128}, 128, false, true, 1, 0, 0, ragged},
      {"interleaved", {4, 4, 64}, 64, true, false, 1, 0, 0, ragged},
      {"partial", {4, 2, 80}, 32, false, false, 1, 0, 0, ragged, 80},
      {"partial_interleaved_normed", {3, 1, 24}, 10, true, true, 1, 0, 0, ragged, 16},
      {"odd_pairs", {2, 2, 20}, 18, false, false, 1, 0, 0, ragged, 16},
      {"scaled", {4, 1, 96}, 96, false, false, 1.19f, 0, 0, ragged},
      {"dynamic", {4, 2, 64}, 64, false, false, 1, 2.0f, 64, ragged},
      {"gemma", {4, 1, 256}, 256, false, true, 1, 0, 0, {{5, 70}}, 16},
  };
}

}  // namespace baize::op_test
