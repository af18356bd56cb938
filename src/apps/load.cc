#include "apps/load.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda_loader/cuda_loader.h"
#include "backend/ref/ref_backend.h"
#include "base/error.h"
#include "base/log.h"
#include "model/family.h"
#include "store/store.h"

namespace baize::apps {

Compute compute_of(const EngineConfig& config) {
  if (config.deterministic && config.compute == "f32") {
    fail(ErrorKind::kInvalidArgument, "--deterministic chooses its own arithmetic: leave out --compute f32");
  }
  if (config.deterministic) return Compute::kInvariant;
  return config.compute == "f32" ? Compute::kExact : Compute::kAuto;
}

Quantize quantize_of(const EngineConfig& config) { return config.quantize == "fp8" ? Quantize::kFp8 : Quantize::kNone; }

namespace {

// The GPU where there is one and the CUDA backend was built, else nothing.
std::unique_ptr<Backend> find_gpu() {
  try {
    return load_cuda_backend();
  } catch (const Error& error) {
    log::debug("computing on the processor: {}", error.what());
    return nullptr;
  }
}

}  // namespace

std::unique_ptr<Backend> make_backend(const EngineConfig& config) {
  if (config.backend == "ref") return make_ref_backend();
  if (config.backend == "cuda") return load_cuda_backend();
  if (config.backend == "auto") {
    if (std::unique_ptr<Backend> gpu = find_gpu()) return gpu;
  }
  return make_cpu_backend(static_cast<int>(config.threads));
}

std::shared_ptr<const Checkpoint> open_model(const std::string& model, const EngineConfig& config) {
  if (config.load == "dummy") return open_configuration(model, config.dummy_format);
  return open_checkpoint(store::find_model(store::Store(store::Store::default_root()), model));
}

LoadedModel load_model(const std::shared_ptr<const Checkpoint>& checkpoint, const EngineConfig& config) {
  LoadedModel loaded;
  loaded.compute = compute_of(config);
  loaded.backend = make_backend(config);
  if (loaded.compute == Compute::kInvariant && !loaded.backend->has_invariant()) {
    fail(ErrorKind::kUnsupported, "the {} backend cannot compute deterministically: take --backend cpu",
         loaded.backend->name());
  }
  const PlannedModel planned =
      plan_model(checkpoint, *loaded.backend, loaded.compute, limits_of(config, *loaded.backend), quantize_of(config));
  loaded.memory = planned.memory;
  const int64_t made_for = make_spec(*checkpoint).dims.context;
  if (planned.memory.limits.context > made_for) {
    log::warn("a context of {} tokens is longer than the {} that the model was made for; answers may suffer",
              planned.memory.limits.context, made_for);
  } else if (config.ctx == 0 && planned.memory.limits.context < made_for) {
    log::info("the context is {} of {} tokens, which is what fits into memory", planned.memory.limits.context,
              made_for);
  }
  loaded.model =
      bind(checkpoint, planned.dry->spec, *loaded.backend,
           {.compute = loaded.compute, .quantize = quantize_of(config), .dry = false, .bytes = planned.memory.weights});
  return loaded;
}

std::unique_ptr<Engine> LoadedModel::make_engine() const {
  return std::make_unique<Engine>(model, *backend, compute, memory.limits);
}

}  // namespace baize::apps
