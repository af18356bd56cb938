#include "apps/cmd_list.h"

#include <CLI/App.hpp>

#include <algorithm>
#include <memory>

#include "base/json.h"
#include "base/text.h"
#include "store/catalogue.h"
#include "store/store.h"

namespace baize::apps {

namespace {
using store::Manifest;

void print_json(const std::vector<Manifest>& manifests) {
  Json models = Json::array();
  for (const Manifest& manifest : manifests) {
    Json files = Json::array();
    for (const auto& file : manifest.files) {
      files.push_back({{"path", file.path}, {"sha256", file.sha256}, {"bytes", file.bytes}});
    }
    models.push_back({{"name", manifest.name},
                      {"bytes", manifest.bytes()},
                      {"source", manifest.source},
                      {"date", manifest.date},
                      {"files", files}});
  }
  fmt::print("{}\n", Json{{"models", models}}.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_table(const std::vector<Manifest>& manifests) {
  size_t name_width = 4;
  for (const Manifest& manifest : manifests) name_width = std::max(name_width, manifest.name.size());
  fmt::print("{:<{}}  {:>8}  {:<10}  {}\n", "NAME", name_width, "SIZE", "PULLED", "SOURCE");
  for (const Manifest& manifest : manifests) {
    fmt::print("{:<{}}  {:>8}  {:<10}  {}\n", manifest.name, name_width, human_bytes(manifest.bytes()),
               manifest.date.substr(0, 10), manifest.source);
  }
}

void run(bool json) {
  const store::Store models(store::Store::default_root());
  const std::vector<Manifest> manifests = models.list();
  if (json) return print_json(manifests);
  if (!manifests.empty()) return print_table(manifests);
  fmt::print("No models in {} yet. Known names, to fetch with `baize pull NAME`:\n", models.root().string());
  for (const auto& entry : store::catalogue()) fmt::print("  {}  {}\n", entry.name, entry.about);
}
}  // namespace

void add_list_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("list", "Show the models on this machine");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Print JSON");
  command->callback([json] { run(*json); });
}

}  // namespace baize::apps
