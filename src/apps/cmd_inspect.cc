// baize inspect: what a model is, how it is stored, which kernels will run it and what that needs. Reads no weights.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>

#include "apps/commands.h"
#include "apps/describe.h"
#include "apps/load.h"
#include "apps/options.h"
#include "apps/table.h"
#include "base/json.h"
#include "base/text.h"
#include "model/family.h"

namespace baize::apps {

namespace {

struct InspectArgs {
  EngineConfig config{.parallel = 1};
  std::string model;
  bool tensors = false;
  bool json = false;
};

struct Inspected {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Backend> backend;
  Compute compute;
  PlannedModel planned;
  const Model& model() const { return *planned.dry; }

  /// One new token behind `length - 1` others.
  StepCost token_cost(int64_t length) const {
    return dry_step(model(), *backend, compute, {.rows = 1, .seqs = 1, .out_rows = 1, .context = length});
  }
};

const char* format_name(const Checkpoint& checkpoint) {
  return checkpoint.kind() == Checkpoint::Kind::kGguf ? "GGUF" : "Hugging Face";
}

std::string shape_text(const LinearShape& shape) { return fmt::format("{} x {}", shape.n, shape.k); }

int64_t stored_bytes(const Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const SourceTensor& tensor : checkpoint.tensors()) bytes += static_cast<int64_t>(tensor.bytes.size());
  return bytes;
}

Json weights_json(const Model& model) {
  Json list = Json::array();
  for (const WeightInfo& weight : model.weights) {
    Json kernels = Json::array();
    for (const LinearKernel* kernel : weight.kernels) {
      if (kernel != nullptr) kernels.push_back(kernel->name);
    }
    list.push_back({{"name", weight.name},
                    {"source", weight.source},
                    {"format", weight.shape.format.name()},
                    {"shape", {weight.shape.n, weight.shape.k}},
                    {"layout", weight.pack == nullptr ? "stored" : weight.pack->name},
                    {"kernels", kernels},
                    {"resident_bytes", weight.resident_bytes}});
  }
  return list;
}

Json memory_json(const MemoryPlan& plan) {
  return {{"context", plan.limits.context}, {"weights", plan.weights},    {"cache", plan.run.cache},
          {"temporary", plan.run.arena},    {"inputs", plan.run.inputs},  {"logits", plan.run.logits},
          {"total", plan.total()},          {"available", plan.available}};
}

Json cost_json(const Inspected& inspected, int64_t length) {
  const StepCost cost = inspected.token_cost(length);
  return {{"length", length},
          {"flops", cost.flops},
          {"weight_bytes", cost.weight_bytes},
          {"cache_bytes", cost.cache_bytes}};
}

void print_json(const Inspected& inspected) {
  const Checkpoint& checkpoint = *inspected.checkpoint;
  const Model& model = inspected.model();
  const CacheBytes cache = cache_bytes(model);
  Json tensors = Json::array();
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    std::vector<int64_t> shape;
    for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
    tensors.push_back(
        {{"name", tensor.name}, {"format", tensor.format.name()}, {"shape", shape}, {"bytes", tensor.bytes.size()}});
  }
  const int64_t context = inspected.planned.memory.limits.context;
  const Json out = {{"path", checkpoint.path()},
                    {"format", format_name(checkpoint)},
                    {"family", find_family(Meta(checkpoint)).name},
                    {"parameters", model.parameters},
                    {"stored_bytes", stored_bytes(checkpoint)},
                    {"spec", parse_json(print_spec(model.spec), "spec")},
                    {"device", inspected.backend->info().name},
                    {"weights", weights_json(model)},
                    {"tensors", tensors},
                    {"memory", memory_json(inspected.planned.memory)},
                    {"cache", {{"bytes_per_token", cache.per_token}, {"window_bytes", cache.windows}}},
                    {"token", {cost_json(inspected, 1), cost_json(inspected, context)}}};
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_model(const Inspected& inspected) {
  const Checkpoint& checkpoint = *inspected.checkpoint;
  const Model& model = inspected.model();
  const Dims& dims = model.spec.dims;
  fmt::print("{}\n", checkpoint.path());
  fmt::print("{}, family {}, {} parameters, {} stored\n", format_name(checkpoint), find_family(Meta(checkpoint)).name,
             human_count(model.parameters), human_bytes(stored_bytes(checkpoint)));
  fmt::print("width {}, vocabulary {}, context {} tokens, {} layers, {} head\n", dims.hidden, human_count(dims.vocab),
             human_count(dims.context), model.spec.layers.size(), model.spec.head.tied ? "tied" : "separate");
  for (const std::string& line : describe_layers(model.spec)) fmt::print("  {}\n", line);
}

void print_weights(const Inspected& inspected) {
  Table table(
      {"WEIGHT", ">COUNT", "STORED AS", ">ROWS x COLUMNS", "LAYOUT", "KERNEL (1 / 2-16 / MORE ROWS)", ">MEMORY"});
  for (const WeightGroup& group : group_weights(inspected.model())) {
    const WeightInfo& weight = group.first;
    table.add({group.name, std::to_string(group.count), weight.shape.format.name(), shape_text(weight.shape),
               weight.pack == nullptr ? "as stored" : weight.pack->name, kernel_names(weight),
               human_bytes(group.resident_bytes)});
  }
  fmt::print("\n{}\n{}", inspected.backend->info().name, table.text());
}

void print_memory(const Inspected& inspected) {
  const MemoryPlan& plan = inspected.planned.memory;
  const CacheBytes cache = cache_bytes(inspected.model());
  fmt::print("\nMemory for {} tokens of context: {} of {} free{}\n", human_count(plan.limits.context),
             human_bytes(plan.total()), human_bytes(plan.available),
             plan.total() > plan.available ? ": it does not fit here" : "");
  fmt::print("  weights {}, cache {}, temporary {}\n", human_bytes(plan.weights), human_bytes(plan.run.cache),
             human_bytes(plan.run.total() - plan.run.cache));
  fmt::print("  cache: {} a token", human_bytes(cache.per_token));
  fmt::print("{}\n", cache.windows > 0 ? fmt::format(", and {} for full windows", human_bytes(cache.windows)) : "");
  fmt::print("\nOne new token\n");
  for (const int64_t length : {int64_t{1}, plan.limits.context}) {
    const StepCost cost = inspected.token_cost(length);
    fmt::print("  at position {}: {:.3f} GFLOP, reads {} of weights and {} of cache\n", human_count(length),
               static_cast<double>(cost.flops) / 1e9, human_bytes(cost.weight_bytes), human_bytes(cost.cache_bytes));
  }
}

void print_tensors(const Checkpoint& checkpoint) {
  Table table({"TENSOR", "TYPE", ">SHAPE", ">BYTES"});
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    table.add({tensor.name, tensor.format.name(), tensor.shape.to_string(),
               human_count(static_cast<int64_t>(tensor.bytes.size()))});
  }
  fmt::print("\n{}", table.text());
}

void run(const InspectArgs& args) {
  Inspected inspected;
  inspected.checkpoint = open_model(args.model, args.config);
  inspected.backend = make_backend(args.config);
  inspected.compute = compute_of(args.config);
  inspected.planned = plan_model(inspected.checkpoint, *inspected.backend, inspected.compute,
                                 limits_of(args.config, *inspected.backend), quantize_of(args.config), false);
  if (args.json) return print_json(inspected);
  print_model(inspected);
  print_weights(inspected);
  print_memory(inspected);
  if (args.tensors) print_tensors(*inspected.checkpoint);
}

}  // namespace

void add_inspect_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("inspect", "Show what a model is and how it will run here");
  const auto args = std::make_shared<InspectArgs>();
  command->add_option("model", args->model, "GGUF file, model folder, or name in the store")->required();
  command->add_flag("--tensors", args->tensors, "list every tensor of the files, too");
  command->add_flag("--json", args->json, "print JSON");
  add_engine_options(*command, args->config);
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
