// baize bench: how fast a model runs here, next to what the machine can do at most.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <memory>

#include "apps/batch_test.h"
#include "apps/commands.h"
#include "apps/load.h"
#include "apps/options.h"
#include "apps/speed_test.h"
#include "apps/table.h"
#include "base/error.h"
#include "base/json.h"

namespace baize::apps {

namespace {

struct BenchArgs {
  EngineConfig config{.parallel = 1};
  std::string model;
  std::vector<int64_t> prefill = {32, 128, 512, 2048};
  std::vector<int64_t> depth = {0, 512};
  std::vector<int64_t> batch;
  int64_t decode = 128;
  int repeats = 3;
  bool roof = false;
  bool json = false;
};

const Roof* find_roof(const std::vector<Roof>& roofs, const std::string& name) {
  const auto found = std::find_if(roofs.begin(), roofs.end(), [&](const Roof& roof) { return roof.name == name; });
  return found == roofs.end() ? nullptr : &*found;
}

// What the model mostly multiplies with: int8 on block-quantised weights, unless everything is to be f32.
std::string arithmetic(const LoadedModel& loaded) {
  int64_t quantised = 0, all = 0;
  for (const WeightInfo& weight : loaded.model->weights) {
    const int64_t count = weight.shape.n * weight.shape.k;
    all += count;
    if (weight.shape.format.scheme == Scheme::kGguf) quantised += count;
  }
  return loaded.compute != Compute::kExact && 2 * quantised > all ? "int8" : "f32";
}

struct Speed {
  double tokens, gigabytes, gigaflops;    // a second
  double of_read = 0, of_arithmetic = 0;  // share of the roof; 0: not measured
};

Speed speed_of(const SpeedResult& result, const std::vector<Roof>& roofs, const std::string& arithmetic_roof) {
  const double seconds = result.median();
  const auto bytes = static_cast<double>(result.cost.weight_bytes + result.cost.cache_bytes);
  Speed speed{static_cast<double>(result.test.tokens) / seconds, bytes / seconds / 1e9,
              static_cast<double>(result.cost.flops) / seconds / 1e9};
  if (const Roof* roof = find_roof(roofs, "read")) speed.of_read = speed.gigabytes / roof->value;
  if (const Roof* roof = find_roof(roofs, arithmetic_roof)) speed.of_arithmetic = speed.gigaflops / roof->value;
  return speed;
}

Json roofs_json(const std::vector<Roof>& roofs) {
  Json list = Json::array();
  for (const Roof& roof : roofs) list.push_back({{"name", roof.name}, {"value", roof.value}, {"unit", roof.unit}});
  return list;
}

void print_roofs(const std::vector<Roof>& roofs) {
  for (const Roof& roof : roofs) fmt::print("{:<8} {:8.1f} {}\n", roof.name, roof.value, roof.unit);
}

void print_json(const std::vector<SpeedResult>& results, const std::vector<Roof>& roofs, const LoadedModel& loaded) {
  const std::string peak = arithmetic(loaded);
  Json tests = Json::array();
  for (const SpeedResult& result : results) {
    const Speed speed = speed_of(result, roofs, peak);
    tests.push_back({{"name", result.test.name()},
                     {"tokens", result.test.tokens},
                     {"depth", result.test.depth},
                     {"seconds", result.seconds},
                     {"tokens_per_second", speed.tokens},
                     {"gigabytes_per_second", speed.gigabytes},
                     {"gigaflops_per_second", speed.gigaflops},
                     {"of_read_roof", speed.of_read},
                     {"of_arithmetic_roof", speed.of_arithmetic}});
  }
  const Json out = {
      {"device", loaded.backend->info().name}, {"arithmetic", peak}, {"roofs", roofs_json(roofs)}, {"tests", tests}};
  fmt::print("{}\n", out.dump(2));
}

void print_table(const std::vector<SpeedResult>& results, const std::vector<Roof>& roofs, const LoadedModel& loaded) {
  const std::string peak = arithmetic(loaded);
  const auto share = [](double part) { return part > 0 ? fmt::format("{:.0f} %", 100 * part) : std::string("-"); };
  Table table({"TEST", ">TOKENS/S", ">GB/S", ">OF READ", peak == "int8" ? ">GOP/S" : ">GFLOP/S", ">OF " + peak});
  for (const SpeedResult& result : results) {
    const Speed speed = speed_of(result, roofs, peak);
    table.add({result.test.name(), fmt::format("{:.1f}", speed.tokens), fmt::format("{:.2f}", speed.gigabytes),
               share(speed.of_read), fmt::format("{:.1f}", speed.gigaflops), share(speed.of_arithmetic)});
  }
  fmt::print("{}\n\n", loaded.backend->info().name);
  print_roofs(roofs);
  fmt::print("\n{}", table.text());
}

void run_roof(const BenchArgs& args) {
  const std::unique_ptr<Backend> backend = make_backend(args.config);
  const std::vector<Roof> roofs = backend->measure_roofs();
  if (roofs.empty()) fail(ErrorKind::kUnsupported, "the {} backend measures no roofs", backend->name());
  if (args.json) {
    fmt::print("{}\n", Json{{"device", backend->info().name}, {"roofs", roofs_json(roofs)}}.dump(2));
  } else {
    fmt::print("{}\n\n", backend->info().name);
    print_roofs(roofs);
  }
}

std::vector<SpeedCase> make_cases(const BenchArgs& args, int64_t context) {
  std::vector<SpeedCase> cases;
  for (const int64_t length : args.prefill) cases.push_back({SpeedCase::kPrefill, length, 0});
  for (const int64_t depth : args.depth) {
    if (args.decode > 0) cases.push_back({SpeedCase::kDecode, args.decode, depth});
  }
  std::erase_if(cases, [&](const SpeedCase& test) { return test.tokens + test.depth > context; });
  if (cases.empty()) {
    fail(ErrorKind::kInvalidArgument, "no test fits the context of {} tokens: give shorter ones", context);
  }
  return cases;
}

// Prompts of the requests that come together: long enough that computing them shows in the time to the first token.
constexpr int64_t kBatchPrompt = 64;

std::vector<BatchResult> measure_batches(const BenchArgs& args, const LoadedModel& loaded, Engine& engine) {
  std::vector<BatchResult> results;
  run_batch(engine, {1, kBatchPrompt, 4});  // warms up
  for (const int64_t streams : args.batch) {
    const int64_t tokens = std::min(args.decode, loaded.memory.limits.context - kBatchPrompt);
    results.push_back(run_batch(engine, {streams, kBatchPrompt, tokens}));
  }
  return results;
}

void print_batches_json(const std::vector<BatchResult>& results, const LoadedModel& loaded) {
  Json tests = Json::array();
  for (const BatchResult& result : results) {
    tests.push_back({{"streams", result.test.streams},
                     {"prompt_tokens", result.test.prompt},
                     {"new_tokens", result.test.tokens},
                     {"first_token_seconds_p50", result.first_median},
                     {"first_token_seconds_max", result.first_last},
                     {"decode_tokens_per_second", result.decode_rate},
                     {"decode_tokens_per_second_per_stream", result.per_stream()},
                     {"tokens_per_second", result.total_rate}});
  }
  fmt::print("{}\n", Json{{"device", loaded.backend->info().name}, {"batches", tests}}.dump(2));
}

void run_batches(BenchArgs args) {
  const int64_t most = *std::max_element(args.batch.begin(), args.batch.end());
  if (args.decode < 2) fail(ErrorKind::kInvalidArgument, "--batch needs at least 2 tokens to --decode");
  args.config.parallel = most;
  args.config.ctx = args.config.ctx > 0 ? args.config.ctx : kBatchPrompt + args.decode;
  args.config.cache = most * args.config.ctx;
  const LoadedModel loaded = load_model(open_model(args.model, args.config), args.config);
  const std::unique_ptr<Engine> engine = loaded.make_engine();
  const std::vector<BatchResult> results = measure_batches(args, loaded, *engine);
  if (args.json) return print_batches_json(results, loaded);
  Table table({">STREAMS", ">TOKENS/S", ">A STREAM", ">WITH PROMPTS", ">FIRST TOKEN", ">LAST'S FIRST"});
  for (const BatchResult& result : results) {
    table.add({std::to_string(result.test.streams), fmt::format("{:.1f}", result.decode_rate),
               fmt::format("{:.1f}", result.per_stream()), fmt::format("{:.1f}", result.total_rate),
               fmt::format("{:.0f} ms", 1e3 * result.first_median), fmt::format("{:.0f} ms", 1e3 * result.first_last)});
  }
  fmt::print("{}\n{} new tokens behind prompts of {}\n\n{}", loaded.backend->info().name, args.decode, kBatchPrompt,
             table.text());
}

void run(const BenchArgs& args) {
  if (args.roof) return run_roof(args);
  if (args.model.empty()) fail(ErrorKind::kInvalidArgument, "bench needs a MODEL, or --roof");
  if (!args.batch.empty()) return run_batches(args);
  const LoadedModel loaded = load_model(open_model(args.model, args.config), args.config);
  const std::vector<SpeedCase> cases = make_cases(args, loaded.memory.limits.context);
  int64_t longest = 0;
  for (const SpeedCase& test : cases) longest = std::max(longest, test.tokens + test.depth);
  const std::vector<Roof> roofs = loaded.backend->measure_roofs();
  const std::vector<SpeedResult> results = SpeedTest(loaded, longest).run(cases, args.repeats);
  if (args.json) {
    print_json(results, roofs, loaded);
  } else {
    print_table(results, roofs, loaded);
  }
}

}  // namespace

void add_bench_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("bench", "Measure how fast a model runs here");
  const auto args = std::make_shared<BenchArgs>();
  const CLI::Range lengths(int64_t{1}, int64_t{1} << 24), depths(int64_t{0}, int64_t{1} << 24);
  command->add_option("model", args->model, "GGUF file, model folder, or name in the store");
  command->add_option("--prefill", args->prefill, "prompt lengths")
      ->delimiter(',')
      ->check(lengths)
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--decode", args->decode, "new tokens, one after another; 0: none")
      ->check(depths)
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--depth", args->depth, "tokens before those")
      ->delimiter(',')
      ->check(depths)
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--batch", args->batch, "measure the engine with so many requests at once instead")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{4096}))
      ->type_name("N");
  command->add_option("--repeats", args->repeats, "the median of so many counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--roof", args->roof, "only measure what this machine can do at most");
  command->add_flag("--json", args->json, "print JSON");
  add_engine_options(*command, args->config);
  add_bench_serve_command(*command);
  command->callback([args, command] {
    if (command->get_subcommands().empty()) run(*args);
  });
}

}  // namespace baize::apps
