#include "engine/memory_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "model/family.h"

namespace baize {

namespace {

constexpr int64_t kSizeStep = 256;  // contexts and caches that are cut to fit are multiples of it

std::shared_ptr<const Model> dry_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend,
                                       const BindOptions& options, int64_t context) {
  return baize::bind(checkpoint, make_spec(*checkpoint, context), backend, options);
}

// The largest multiple of kSizeStep below `most` for which fits(value); 0 when there is none.
template <typename Fits>
int64_t largest_fitting(int64_t most, const Fits& fits) {
  int64_t good = 0, bad = (most + kSizeStep - 1) / kSizeStep;
  while (bad - good > 1) {
    const int64_t middle = (good + bad) / 2;
    (fits(middle * kSizeStep) ? good : bad) = middle;
  }
  return good * kSizeStep;
}

}  // namespace

EngineLimits limits_of(const EngineConfig& config, const Backend& backend) {
  const EngineHabits habits = backend.habits();
  EngineLimits limits{.context = config.ctx, .cache_tokens = config.cache};
  limits.seqs = config.parallel > 0 ? config.parallel : habits.seqs;
  limits.step_rows = config.step > 0 ? config.step : habits.step_rows;
  limits.measure_step = config.step == 0 && habits.warms_up;
  if (config.queue > 0) limits.waiting = config.queue;
  if (!config.gpu_memory.empty()) {
    if (backend.place().kind == Place::kHost) {
      fail(ErrorKind::kInvalidArgument, "--gpu-memory limits a GPU's memory, but the {} backend uses the host's",
           backend.name());
    }
    limits.memory = parse_memory(config.gpu_memory, backend.info().memory_bytes);
  }
  return limits;
}

MemoryPlan plan_memory(const Model& model, Backend& backend, Compute compute, const EngineLimits& limits) {
  MemoryPlan plan;
  plan.limits = limits;
  plan.weights = model.resident_bytes;
  plan.run = Runner::memory(model, backend, compute, limits.step(), limits.pages(cache_layout(model)));
  const DeviceInfo info = backend.info();
  plan.available = info.free_bytes;
  if (limits.memory > 0)
    plan.available = std::min(plan.available, std::max<int64_t>(limits.memory - info.own_bytes, 0));
  return plan;
}

PlannedModel plan_model(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend, Compute compute,
                        const EngineLimits& limits, Quantize quantize, bool must_fit) {
  PlannedModel planned;
  const BindOptions options{.compute = compute, .quantize = quantize, .dry = true};
  planned.dry = dry_model(checkpoint, backend, options, limits.context);
  const auto plan_for = [&](int64_t context, int64_t cache_tokens) {
    EngineLimits wanted = limits;
    wanted.context = context;
    wanted.cache_tokens = cache_tokens;
    return plan_memory(*planned.dry, backend, compute, wanted);
  };
  const auto fits = [](const MemoryPlan& plan) { return plan.total() <= plan.available; };
  const int64_t context = planned.dry->spec.dims.context;
  const int64_t cache = std::max(
      context, limits.cache_tokens > 0 ? limits.cache_tokens : limits.seqs * backend.habits().cache_tokens_per_seq);
  planned.memory = plan_for(context, cache);
  if (fits(planned.memory)) return planned;
  if (limits.cache_tokens == 0 && cache > context) {
    const int64_t less = largest_fitting(cache, [&](int64_t tokens) { return fits(plan_for(context, tokens)); });
    planned.memory = plan_for(context, std::max(context, less));
    if (fits(planned.memory)) return planned;
  }

  if (!must_fit) return planned;
  const int64_t shorter = largest_fitting(context, [&](int64_t tokens) { return fits(plan_for(tokens, 0)); });
  if (limits.context > 0 || limits.cache_tokens > 0 || shorter == 0) {
    const MemoryPlan& plan = planned.memory;
    fail(ErrorKind::kResource,
         "{} does not fit: {} for weights, {} for a cache of {} tokens and {} of working memory make {}, but only {} "
         "are free: {}",
         checkpoint->path(), human_bytes(plan.weights), human_bytes(plan.run.cache), plan.limits.cache_tokens,
         human_bytes(plan.run.total() - plan.run.cache), human_bytes(plan.total()), human_bytes(plan.available),
         shorter > 0 ? fmt::format("--ctx {} would fit", shorter) : "take a smaller model or quantisation");
  }
  planned.dry = dry_model(checkpoint, backend, options, shorter);
  planned.memory = plan_for(shorter, shorter);
  return planned;
}

}  // namespace baize
