// MemoryPlan: what a model will need of a backend's memory, told by dry runs before any weight is read. Any thread.
#pragma once

#include <memory>

#include "engine/runner.h"

namespace baize {

struct MemoryPlan {
  int64_t context = 0;    // tokens of the longest sequence
  int64_t weights = 0;    // bytes, files mapped in place included
  Runner::Memory run;     // cache, temporary memory, ...
  int64_t available = 0;  // bytes of the backend's memory that can be had
  int64_t total() const { return weights + run.total(); }
};

/// Plans for one sequence of `context` tokens. `model` is a dry one.
MemoryPlan plan_memory(const Model& model, Backend& backend, Compute compute, int64_t context);

/// A checkpoint, planned but not loaded.
struct PlannedModel {
  std::shared_ptr<const Model> dry;
  MemoryPlan memory;
};

/// The plan for `context` tokens; for 0, for as much of the checkpoint's own context as fits into memory.
/// Throws Error(kResource) with the numbers when it does not fit, and the errors of make_spec and bind.
PlannedModel plan_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend, Compute compute,
                        int64_t context);

}  // namespace baize
