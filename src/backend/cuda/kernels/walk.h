// The walk: a whole decode step of one row as one resident kernel that walks a list of fused steps. One block a
// multiprocessor. A copying warp streams the weights of all linears, in order and without ever waiting for activations,
// through a ring in shared memory, so that memory stays busy while the other warps synchronise the grid between steps,
// norm, rotate and attend. Plain data, made by walk_plan.cc.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/blocks.h"
#include "backend/cuda/kernels/paged.h"
#include "backend/cuda/kernels/rope_args.h"
#include "ops/ops.h"

namespace baize::cuda {

/// Stands for fp8 rows with a scale each among the types of weights: no walk reads f32.
constexpr GgufType kWalkFp8 = GgufType::kF32;

enum class WalkKind : int { kLinear, kAttention };
/// Where the input of a linear comes from.
enum class WalkInput : int {
  kStart,    // the residual starts as `x` (f32); normed
  kAdd,      // the residual += `x` (bf16); normed
  kCopy,     // `x` (bf16) as it is
  kAttended  // the partial results of the attention before
};

struct WalkPart {
  const uint8_t* w;
  const float* bias;
  const float* scales;  // of fp8 rows
  void* out;
  DType out_dtype;
  GgufType type;  // kBF16, kWalkFp8 or a block type
  int n;
  int units;  // of 1,024 weights a row
  float alpha;
};

struct WalkStep {
  static constexpr int kMaxParts = 4;
  WalkKind kind;
  // linear
  WalkInput input;
  const void* x;
  const float* norm_weight;
  float norm_eps;
  int k;
  bool plain, quantized, halved;  // forms of the input that the parts need
  bool gated;                     // two parts: out of part 0 = activation(part 0) * part 1
  Activation activation;
  float softcap;
  int parts;
  WalkPart part[kMaxParts];
  // attention; the linear after it merges the partial results by these too
  const uint16_t* qkv;  // bf16
  RopeArgs rope;
  NormArgs q_norm, k_norm;
  Paged kv;
  float scale, score_softcap;
  int window, kv_heads, group;
};

/// The weights of one part, as the copying warp sees them.
struct WalkStream {
  const uint8_t* w;
  int n;
  int row_bytes;
  int chunk_bytes;  // a stage's share
};

struct WalkArgs {
  const WalkStep* steps;  // on the device
  int count;
  const WalkStream* streams;  // on the device, in the order of use
  int stream_count;
  int hidden;
  int head_dim;
  int heads;
  int splits;      // most parts a key head's keys are cut in
  float* partial;  // [heads, splits, head_dim], then {maximum, sum} [heads, splits]
  const int* position;
  unsigned* barrier;  // {count, what it was when the kernel began}
  long long* trace;   // [blocks, count, 4] clocks: step begun, input ready, products done, grid in step; or null
  int stages, depth;  // of the ring; copies of a block that are under way at once
  // shared memory, in bytes
  int at_residual, at_work, work_bytes, at_slots;
};

constexpr int kWalkStageBytes = 16384;
constexpr int kWalkDepth = 3;      // 48 KB a multiprocessor: about the latency of memory times its bandwidth
constexpr int kWalkMinKeys = 128;  // of a part
constexpr int kWalkGroup = 4;      // query heads a pass over the keys serves

constexpr int walk_unit_bytes(GgufType type) {
  if (type == GgufType::kBF16) return 2 * kUnitWeights;
  if (type == kWalkFp8) return kUnitWeights;
  return unit_bytes(block_map(type, type != GgufType::kQ4_K && type != GgufType::kQ5_K));
}
/// Shared memory of the input of a linear in the forms that it needs.
constexpr int walk_input_bytes(const WalkStep& step) {
  return step.k * (step.plain ? 2 : 0) + (step.quantized ? step.k + step.k / 2 : 0) +
         (step.halved ? 2 * step.k + step.k / 4 : 0);
}
/// Units of one stage: a multiple of the eight warps that share it.
// NOLINTNEXTLINE(clang-analyzer-core.DivideZero): of types that walk_supports
constexpr int walk_stage_units(GgufType type) { return kWalkStageBytes / walk_unit_bytes(type) / 8 * 8; }

bool walk_supports(GgufType type, int head_dim);
/// Most dynamic shared memory of a block that the kernel can have.
int walk_shared_bytes();
void walk(cudaStream_t stream, const WalkArgs& args, int sms);

}  // namespace baize::cuda
