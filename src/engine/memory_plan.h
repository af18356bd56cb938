// MemoryPlan: what a model will need of a backend's memory, told by dry runs before any weight is read. Any thread.
#pragma once

#include <memory>

#include "engine/config.h"
#include "engine/engine.h"

namespace baize {

struct MemoryPlan {
  EngineLimits limits;    // what the memory is for
  int64_t weights = 0;    // bytes, files mapped in place included
  Runner::Memory run;     // cache, temporary memory, ...
  int64_t available = 0;  // bytes of the backend's memory that can be had
  int64_t total() const { return weights + run.total(); }
};

/// The limits that the settings ask for, or the backend's habits; `context` and `cache_tokens` are 0 where the choice
/// is left to the plan.
EngineLimits limits_of(const EngineConfig& config, const Backend& backend);

/// `model` is a dry one.
MemoryPlan plan_memory(const Model& model, Backend& backend, Compute compute, const EngineLimits& limits);

/// A checkpoint, planned but not loaded.
struct PlannedModel {
  std::shared_ptr<const Model> dry;
  MemoryPlan memory;
};

/// The plan for `limits`. A context of 0 becomes as much of the checkpoint's own as fits into memory; a cache of 0
/// holds 512 tokens for each sequence that may run, or as many as fit, but at least the context. Throws
/// Error(kResource) with the numbers when it does not fit
/// (without `must_fit` the plan of the whole context is given all the same), and the errors of make_spec and bind.
PlannedModel plan_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend, Compute compute,
                        const EngineLimits& limits, Quantize quantize = Quantize::kNone, bool must_fit = true);

}  // namespace baize
