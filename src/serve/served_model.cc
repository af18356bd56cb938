#include "serve/served_model.h"

#include <algorithm>

#include "serve/api_error.h"
#include "text/reasoning.h"

namespace baize::serve {

bool template_thinks(const ModelText& text) {
  return std::any_of(text.tokenizer.chat_templates().begin(), text.tokenizer.chat_templates().end(),
                     [](const auto& each) { return each.second.find(ReasoningSplitter::kClose) != std::string::npos; });
}

const ServedModel& find_served(const std::vector<ServedModel>& models, const std::string& name) {
  if (name.empty()) return models.front();
  std::vector<std::string> known;
  for (const ServedModel& model : models) {
    if (model.name == name) return model;
    if (std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end()) return model;
    known.push_back(model.name);
    known.insert(known.end(), model.aliases.begin(), model.aliases.end());
  }
  throw ApiError(
      404, "model_not_found", "model",
      fmt::format("there is no model \"{}\"; this server has {}", name.substr(0, 100), fmt::join(known, ", ")));
}

}  // namespace baize::serve
