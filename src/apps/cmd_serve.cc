// baize serve: offers models over HTTP, in the way of OpenAI's interface.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>

#include "apps/checkpoint_defaults.h"
#include "apps/commands.h"
#include "apps/load.h"
#include "apps/model_text.h"
#include "apps/options.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/host_memory.h"
#include "base/log.h"
#include "base/text.h"
#include "serve/api.h"
#include "serve/config.h"
#include "serve/http_server.h"

namespace baize::apps {

namespace {

struct ServeArgs {
  EngineConfig engine;
  serve::ServeConfig serve;
  std::vector<std::string> models;
};

// A model and all that belongs to it; the order is that of making, so that the engine goes first.
struct Loaded {
  int64_t text_bytes = 0;  // of memory
  ModelText text;
  LoadedModel model;
  std::unique_ptr<Engine> engine;
};

// "smollm2:135m" as it is, "model" for a file or folder PATH/model.gguf.
std::string served_name(const std::string& model) {
  const std::filesystem::path path(model);
  if (!std::filesystem::exists(path)) return model;
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path);
  return whole.extension() == ".gguf" ? whole.stem().string() : whole.filename().string();
}

std::unique_ptr<Loaded> load(const std::string& name, const EngineConfig& config, serve::ServedModel& served) {
  const auto checkpoint = open_model(name, config);
  const int64_t before = resident_memory();
  ModelText text = open_text(*checkpoint);
  const int64_t text_bytes = std::max<int64_t>(0, resident_memory() - before);
  auto loaded = std::make_unique<Loaded>(text_bytes, std::move(text), load_model(checkpoint, config), nullptr);
  loaded->engine = loaded->model.make_engine();
  served.name = served_name(name);
  served.engine = loaded->engine.get();
  served.text = &loaded->text;
  served.sampling = checkpoint_defaults(*checkpoint).sampling;
  served.thinks = serve::template_thinks(loaded->text);
  served.created = std::time(nullptr);
  return loaded;
}

// Text and weights are resident now; cache and temporary memory will be.
std::string memory_line(const std::string& name, const Loaded& loaded) {
  const MemoryPlan& plan = loaded.model.memory;
  return fmt::format(
      "Memory of {}: {} (weights {}, cache of {} tokens {}, temporary {}, vocabulary {}); {} were free\n", name,
      human_bytes(plan.total() + loaded.text_bytes), human_bytes(plan.weights), human_count(plan.limits.cache_tokens),
      human_bytes(plan.run.cache), human_bytes(plan.run.total() - plan.run.cache), human_bytes(loaded.text_bytes),
      human_bytes(plan.available));
}

void check_names(const std::vector<serve::ServedModel>& models) {
  for (size_t i = 0; i < models.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (models[i].name != models[k].name) continue;
      fail(ErrorKind::kInvalidArgument, "two models would be named \"{}\": give them names with --alias",
           models[i].name);
    }
  }
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

void run(const ServeArgs& args) {
  const serve::ServeConfig& config = args.serve;
  if (config.alias.size() > args.models.size()) {
    fail(ErrorKind::kInvalidArgument, "--alias gives {} names to {} models", config.alias.size(), args.models.size());
  }
  std::vector<std::unique_ptr<Loaded>> loaded;
  // The service is made after the models, but its port is taken before: loading takes long.
  struct Later final : serve::Service {
    std::unique_ptr<serve::Api> api;
    std::unique_ptr<serve::Task> handle(const serve::Request& request, serve::Reply& reply,
                                        const serve::Wake& wake) override {
      return api->handle(request, reply, wake);
    }
    void refuse(int status, const std::string& why, serve::Reply& reply) override { api->refuse(status, why, reply); }
  } service;
  serve::HttpServer server(config.http, service);
  std::vector<serve::ServedModel> models;
  for (size_t i = 0; i < args.models.size(); ++i) {
    serve::ServedModel served;
    loaded.push_back(load(args.models[i], args.engine, served));
    if (i < config.alias.size()) served.name = config.alias[i];
    models.push_back(std::move(served));
  }
  check_names(models);
  std::string names;
  std::string memory;
  for (size_t i = 0; i < models.size(); ++i) memory += memory_line(models[i].name, *loaded[i]);
  for (const serve::ServedModel& model : models) {
    names += fmt::format("{}{} (context {} tokens)", names.empty() ? "" : ", ", model.name, model.engine->context());
  }
  service.api = std::make_unique<serve::Api>(config, std::move(models), kVersion);
  if (!is_loopback(config.http.host) && config.api_keys.empty()) {
    log::warn("everybody who reaches {} may use this server: --api-key demands a key", server.url());
  }
  server.stop_on_signals();
  server.listen();
  fmt::print("Baize serves {} at {}\n", names, server.url());
  fmt::print("Chat page: {0}/   interface: {0}/docs   OpenAI clients: base URL {0}/v1   Ctrl-C ends\n", server.url());
  fmt::print("{}", memory);
  std::fflush(stdout);
  server.run();
}

std::string variable_name(std::string_view field) {
  std::string name = "BAIZE_";
  for (const char c : field) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

void check_range(const serve::ServeField& field, double value) {
  if (value >= field.min && value <= field.max) return;
  fail(ErrorKind::kInvalidArgument, "--{} must be from {} to {}, not {}", field.name, field.min, field.max, value);
}

void add_field(CLI::App& command, const serve::ServeField& field, serve::ServeConfig& config) {
  const std::string option_text = "--" + std::string(field.name);
  CLI::Option* option = nullptr;
  if (field.text != nullptr) {
    option = command.add_option(option_text, *field.text(config), field.help)->take_last();
  } else if (field.texts != nullptr) {
    option = command.add_option(option_text, *field.texts(config), field.help)->delimiter(',')->allow_extra_args(false);
  } else if (field.number != nullptr) {
    const auto set = [&field, &config](const int64_t& value) {
      check_range(field, static_cast<double>(value));
      *field.number(config) = value;
    };
    option = command.add_option_function<int64_t>(option_text, set, field.help)->take_last();
    option->default_str(std::to_string(*field.number(config)));
  } else {
    const auto set = [&field, &config](const double& value) {
      check_range(field, value);
      *field.seconds(config) = value;
    };
    option = command.add_option_function<double>(option_text, set, field.help)->take_last();
    option->default_str(fmt::format("{:g}", *field.seconds(config)));
  }
  option->type_name(field.type)->envname(variable_name(field.name))->group("Service");
}

}  // namespace

void add_serve_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("serve", "Serve models over HTTP: OpenAI's interface and a chat page");
  command->fallthrough();  // --config and --log may also stand behind the command
  const auto args = std::make_shared<ServeArgs>();
  command->add_option("model", args->models, "GGUF files, model folders, or names in the store")->required();
  for (const serve::ServeField& field : serve::serve_fields()) add_field(*command, field, args->serve);
  add_engine_options(*command, args->engine);
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
