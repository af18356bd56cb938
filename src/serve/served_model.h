// ServedModel: one model under the names by which requests ask for it. Made by the command that serves; it and what it
// points to outlive the service. Immutable but for its metrics; any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "serve/metrics.h"
#include "text/model_text.h"

namespace baize::serve {

struct ServedModel {
  std::string name;
  std::vector<std::string> aliases;
  Engine* engine = nullptr;
  const ModelText* text = nullptr;
  SamplingParams sampling;  // the checkpoint's, where a request says nothing
  bool thinks = false;      // its template knows the marks of thoughts
  int64_t created = 0;      // seconds since 1970
  std::shared_ptr<ModelMetrics> metrics = std::make_shared<ModelMetrics>();
};

/// Whether the model's chat template knows <think> and </think>.
bool template_thinks(const ModelText& text);

/// By name or alias; the first one for an empty name. Throws ApiError: 404 naming the known ones.
const ServedModel& find_served(const std::vector<ServedModel>& models, const std::string& name);

}  // namespace baize::serve
