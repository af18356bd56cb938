// From a model's name on the command line to a loaded model on a backend. The only place that names backends.
#pragma once

#include <memory>
#include <string>

#include "engine/config.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"

namespace baize::apps {

Compute compute_of(const EngineConfig& config);
Quantize quantize_of(const EngineConfig& config);

/// Throws Error(kUnsupported) for a backend that this machine or build lacks.
std::unique_ptr<Backend> make_backend(const EngineConfig& config);

/// `model` is a GGUF file or a folder in the Hugging Face layout, or for --load dummy a config.json. Throws the errors
/// of open_checkpoint and open_configuration.
std::shared_ptr<const Checkpoint> open_model(const std::string& model, const EngineConfig& config);

struct LoadedModel {
  Compute compute = Compute::kAuto;
  std::unique_ptr<Backend> backend;
  MemoryPlan memory;
  std::shared_ptr<const Model> model;

  std::unique_ptr<Engine> make_engine() const;
};

/// Plans, then loads. Throws Error(kResource) before loading when it does not fit.
LoadedModel load_model(const std::shared_ptr<const Checkpoint>& checkpoint, const EngineConfig& config);

}  // namespace baize::apps
