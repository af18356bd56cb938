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

/// Any other op: launched by `run`, with the step's arrays. A step that has one is neither known again nor replayed.
struct OtherOp {
  std::function<void(cudaStream_t, const StepInput&)> run;
  const char* name;  // what it does, for BAIZE_CUDA_TIMES
};

using Op = std::variant<EmbedOp, LinearOp, NormOp, AddOp, AddNormOp, GatedOp, QkvOp, AttentionOp, GatherOp, OtherOp>;

/// Of steps without OtherOps. Equal for steps whose launches are equal: same ops, addresses, shapes and constants.
uint64_t hash_step(const std::vector<Op>& ops, const StepInput& input);

}  // namespace baize::cuda
