// OpKernels: the inner loops of CpuOps, compiled once a variant (backend/cpu/isa/). Each works on one row, or on one
// task of attention, on the calling thread; CpuOps cuts the work and threads it. Plain pointers to f32 unless said
// otherwise, at any alignment; immutable, any thread.
#pragma once

#include <cstdint>

#include "backend/cpu/isa.h"
#include "ops/ops.h"

namespace baize::cpu {

/// Keys or values of one head in the paged cache. Rows of `head_dim` elements are contiguous. Strides in elements.
struct HeadCache {
  const void* data;      // element 0 of the head in page 0
  int64_t page_stride;   // from one page to the next
  int64_t token_stride;  // from one token to the next inside a page
};

/// Query rows of one sequence against one key head: what both attention kernels are given.
struct AttnTask {
  HeadCache k, v;
  bool f16;              // cache elements are halves, else floats
  const int32_t* table;  // page of each logical block
  int64_t block;         // tokens a page
  int64_t head_dim;
  int64_t window;  // 0: none
  float scale;
  float softcap;          // 0: none
  const float* q;         // first row, first query head of the group: [rows][group][head_dim], strided
  float* out;             // the same shape
  int64_t q_row, q_head;  // strides of q, in floats
  int64_t out_row, out_head;
  const int32_t* positions;  // [rows], ascending
  int64_t rows;
  int64_t group;  // query heads that read this key head
};

/// Tokens whose scores are taken together. Tiles begin at multiples of it, whatever the rows, so that a row's result
/// does not depend on how the work was cut.
inline constexpr int64_t kKeyTile = 128;

/// Most (row, head) pairs that the few-rows kernel takes at once.
inline constexpr int64_t kFewQueries = 16;

/// Result of a few-rows task for one (row, head) over one key tile: highest score, sum of exponentials relative to it,
/// and the weighted sum of values that follows these two floats.
constexpr int64_t partial_floats(int64_t head_dim) { return 2 + head_dim; }

struct OpKernels {
  /// out = x / sqrt(mean(x^2) + eps) * weight; out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  /// sum += x.
  void (*add)(float* sum, const float* x, int64_t n);
  /// x *= factor.
  void (*multiply)(float* x, float factor, int64_t n);
  /// out = act(gate) * up.
  void (*gated)(Activation activation, const float* gate, const float* up, int64_t n, float* out);
  /// Turns pair i of a head by the angle with these cosines and sines, in place.
  void (*rotate)(float* head, const float* cosines, const float* sines, int64_t pairs, bool interleaved);
  /// Rounds to halves, nearest even.
  void (*to_f16)(const float* x, int64_t n, uint16_t* out);

  /// Few query rows (rows * group <= kFewQueries) over keys [tile * kKeyTile, + kKeyTile): writes one partial a (row,
  /// head), `partial_stride` floats apart. Reads each key and value once.
  void (*attend_few)(const AttnTask& task, int64_t tile, float* partials, int64_t partial_stride);
  /// out = the combination of `tiles` partials, `tile_stride` floats apart.
  void (*combine)(const float* partials, int64_t tiles, int64_t tile_stride, int64_t head_dim, float* out);
  /// Many query rows over all keys they see. `scratch` holds attend_many_scratch floats.
  void (*attend_many)(const AttnTask& task, float* scratch);
  int64_t (*attend_many_scratch)(int64_t queries, int64_t head_dim);  // queries = rows * group
};

/// The table of a variant that usable_isas() lists.
const OpKernels& op_kernels(Isa isa);

}  // namespace baize::cpu
