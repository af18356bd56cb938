// StepInput: what one step computes, as flat arrays in the backend's memory. A step is a ragged batch: rows are tokens,
// consecutive rows of one sequence belong together, and there is no prefill and no decode. Everything that changes from
// step to step is read from here, never passed to an op as a scalar, so that a recorded step can be replayed.
// Filled by the engine's Runner; read-only while the step runs.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace baize {

inline constexpr int kMaxCacheGroups = 6;

/// One layer's keys and values in the paged cache. Pages of the pool lie a page stride apart; the views are strided.
/// Or a state of fixed size a sequence: k is f32 [pages, values], and the page of a sequence's state stands in `column`
/// of its row of the group's block table.
struct KvView {
  Tensor k;       // [pages, block, kv_heads, head_dim]
  Tensor v;       // [pages, block, kv_heads, head_dim]
  int group = 0;  // whose block table finds the pages
  int64_t column = 0;
  // > 0: one entry is kept for so many tokens, where the last of them belongs. A page of `block` tokens then holds
  // those that end in it: k is [pages, entries, 1, dim].
  int64_t stride = 0;
  int64_t block = 0;
};

struct StepInput {
  // Extents, known when the step is launched or recorded.
  int64_t rows = 0;
  int64_t seqs = 0;
  int64_t out_count = 0;   // rows whose logits are wanted
  int64_t max_kv_len = 0;  // upper bound of kv_len; sizes work, never changes results

  Tensor ids;  // i32 [rows]
  Tensor
      positions;    // i32 [rows]      index of the row's token in its sequence: rope angle, cache place and causal mask
  Tensor row_seq;   // i32 [rows]      which sequence of the step a row belongs to
  Tensor q_start;   // i32 [seqs + 1]  first row of each sequence; the last entry is `rows`
  Tensor kv_len;    // i32 [seqs]      tokens in the cache once this step's rows are stored
  Tensor out_rows;  // i32 [out_count]

  std::span<const KvView> kv;  // one a state of the model (model/state.h), in its order

  // Page of each logical block of each sequence, one table a cache group: token t of a sequence lies in page
  // table[seq][t / block] at t % block. Blocks that slid out of a window hold -1 and are never read.
  std::array<Tensor, kMaxCacheGroups> block_tables;  // i32 [seqs, max_blocks]
};

}  // namespace baize
