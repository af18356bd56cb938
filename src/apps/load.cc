#include "apps/load.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "base/check.h"
#include "base/error.h"
#include "store/store.h"

namespace baize::apps {

Compute compute_of(const EngineConfig& config) { return config.compute == "f32" ? Compute::kExact : Compute::kAuto; }

std::unique_ptr<Backend> make_backend(const EngineConfig& config) {
  if (config.backend == "ref") return make_ref_backend();
  if (config.backend == "cuda") {
    fail(ErrorKind::kUnsupported, "this build of baize has no CUDA backend: use --backend cpu or auto");
  }
  return make_cpu_backend(static_cast<int>(config.threads));
}

std::shared_ptr<const Checkpoint> open_model(const std::string& model) {
  return open_checkpoint(store::find_model(store::Store(store::Store::default_root()), model));
}

LoadedModel load_model(const std::shared_ptr<const Checkpoint>& checkpoint, const EngineConfig& config) {
  LoadedModel loaded;
  loaded.compute = compute_of(config);
  loaded.backend = make_backend(config);
  const PlannedModel planned = plan_model(checkpoint, *loaded.backend, loaded.compute, config.ctx);
  loaded.memory = planned.memory;
  loaded.model = bind(checkpoint, planned.dry->spec, *loaded.backend, {.compute = loaded.compute, .dry = false});
  return loaded;
}

std::unique_ptr<Engine> LoadedModel::make_engine() const {
  return std::make_unique<Engine>(model, *backend, compute, EngineLimits{.context = memory.context});
}

}  // namespace baize::apps
