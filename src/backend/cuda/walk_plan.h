// Turns the recorded ops of a one-row step into the steps of a walk (kernels/walk.h), where they are of the shape that
// it knows: norm -> linears -> rope and cache -> attention -> linear -> norm -> linears -> gate -> linear, over and
// over. Used by CudaOps; one thread.
#pragma once

#include <optional>
#include <vector>

#include "backend/cuda/kernels/walk.h"
#include "backend/cuda/op_list.h"

namespace baize::cuda {

struct WalkPlan {
  std::vector<WalkStep> steps;
  std::vector<WalkStream> streams;
  WalkArgs args;               // without its device pointers
  int64_t partial_floats = 0;  // workspace
};

/// The walk of ops[1..], ops[0] being the embedding; nullopt when they are not of the known shape.
std::optional<WalkPlan> plan_walk(const std::vector<Op>& ops, const StepInput& step, int sms);

}  // namespace baize::cuda
