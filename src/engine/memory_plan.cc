#include "engine/memory_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "engine/engine.h"
#include "model/family.h"

namespace baize {

namespace {

constexpr int64_t kContextStep = 256;  // contexts that are cut to fit are multiples of it

std::shared_ptr<const Model> dry_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend,
                                       Compute compute, int64_t context) {
  return bind(checkpoint, make_spec(*checkpoint, context), backend, {.compute = compute, .dry = true});
}

// The longest context below `most` that fits; 0 when none does.
int64_t fitting_context(const Model& model, Backend& backend, Compute compute, int64_t most) {
  int64_t fits = 0, too_long = (most + kContextStep - 1) / kContextStep;
  while (too_long - fits > 1) {
    const int64_t middle = (fits + too_long) / 2;
    const MemoryPlan plan = plan_memory(model, backend, compute, middle * kContextStep);
    (plan.total() <= plan.available ? fits : too_long) = middle;
  }
  return fits * kContextStep;
}

}  // namespace

MemoryPlan plan_memory(const Model& model, Backend& backend, Compute compute, int64_t context) {
  const EngineLimits limits{.context = context};
  MemoryPlan plan;
  plan.context = context;
  plan.weights = model.resident_bytes;
  plan.run = Runner::memory(model, backend, compute, limits.step(), limits.pages(cache_layout(model)));
  plan.available = backend.info().free_bytes;
  return plan;
}

PlannedModel plan_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend, Compute compute,
                        int64_t context) {
  PlannedModel planned;
  planned.dry = dry_model(checkpoint, backend, compute, context);
  const int64_t wanted = planned.dry->spec.dims.context;
  planned.memory = plan_memory(*planned.dry, backend, compute, wanted);
  if (planned.memory.total() <= planned.memory.available) return planned;

  const int64_t fits = fitting_context(*planned.dry, backend, compute, wanted);
  if (context > 0 || fits == 0) {
    const MemoryPlan& plan = planned.memory;
    fail(ErrorKind::kResource,
         "{} does not fit: {} for weights, {} for a context of {} tokens and {} of working memory make {}, but only {} "
         "are free: {}",
         checkpoint->path(), human_bytes(plan.weights), human_bytes(plan.run.cache), wanted,
         human_bytes(plan.run.total() - plan.run.cache), human_bytes(plan.total()), human_bytes(plan.available),
         fits > 0 ? fmt::format("--ctx {} would fit", fits) : "take a smaller model or quantisation");
  }
  planned.dry = dry_model(checkpoint, backend, compute, fits);
  planned.memory = plan_memory(*planned.dry, backend, compute, fits);
  return planned;
}

}  // namespace baize
