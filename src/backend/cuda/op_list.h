// The ops of a step, as recorded by CudaOps before any of them runs, and the hash by which a step is known again.
// Plain values; used by the thread that runs the step.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <variant>
#include <vector>

#include "backend/cuda/kernels/kernels.h"
#include "ops/ops.h"

namespace baize::cuda {

struct EmbedOp {
  Embed table;
  Tensor out;
};
struct LinearOp {
  std::array<LinearCall, 4> calls;
  int count;
  void* workspace;
};
struct NormOp {
  Tensor x;
  Norm norm;
  Tensor out;
};
struct AddOp {
  Tensor residual, x;
};
struct AddNormOp {
  Tensor residual, x;
  Norm norm;
  Tensor out;
};
struct GatedOp {
  Tensor gate_up;
  Activation activation;
  Tensor out;
};
struct QkvOp {
  QkvArgs args;
  Tensor qkv;
  KvView kv;
  Tensor q;
};
struct AttentionOp {
  AttnArgs args;
  Tensor q;
  KvView kv;
  Tensor out;
  bool tiles, by_rows;
  RowsPlan plan;
  float* partials;
};
struct GatherOp {
  Tensor x, out;
};
struct RouteOp {
  RouteArgs args;
  Tensor logits;
  Routing routing;
  RouterCall before;  // what was recorded before it, if it could be joined
};
struct ExpertsOp {
  ExpertParts parts;
  ActArgs activation;
  bool weigh_input;
  Tensor x;
  Routing routing;
  Tensor out;
  AddedNorm then;  // what was recorded after it, if it could be joined
  // workspace
  PairGroups groups;
  bool grouped;    // by the RouteOp before
  bool tiles;      // expert_tiles.cu; else experts.cu
  Tensor up_rows;  // a row a pair, gate|up; not of tiles
  Tensor active;   // a row a pair; of tiles: in the order of the groups
  Tensor results;  // a row a pair
};

/// Any other op: launched by `run`, with the step's arrays. A step that has one is neither known again nor replayed.
struct OtherOp {
  std::function<void(cudaStream_t, const StepInput&)> run;
  const char* name;  // what it does, for BAIZE_CUDA_TIMES
};

using Op = std::variant<EmbedOp, LinearOp, NormOp, AddOp, AddNormOp, GatedOp, QkvOp, AttentionOp, GatherOp, RouteOp,
                        ExpertsOp, OtherOp>;

/// Launches the kernels of one op (cuda_expert_ops.cc).
void run_experts(cudaStream_t stream, const ExpertsOp& op, int sms);

/// Whether an op from `first` on may read what lies at `data` before another writes there. Other ops than those of
/// plain layers count as readers, as does the end.
bool read_later(const std::vector<Op>& ops, size_t first, const void* data);

/// Of steps without OtherOps. Equal for steps whose launches are equal: same ops, addresses, shapes and constants.
uint64_t hash_step(const std::vector<Op>& ops, const StepInput& input);

}  // namespace baize::cuda
