// The ops of a step, as recorded by CudaOps before any of them runs, and the hash by which a step is known again.
// Plain values; used by the thread that runs the step.
#pragma once

#include <array>
#include <cstdint>
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

using Op = std::variant<EmbedOp, LinearOp, NormOp, AddOp, AddNormOp, GatedOp, QkvOp, AttentionOp, GatherOp>;

/// Equal for steps whose launches are equal: same ops, addresses, shapes and constants.
uint64_t hash_step(const std::vector<Op>& ops, const StepInput& input);

}  // namespace baize::cuda
