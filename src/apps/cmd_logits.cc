// baize logits: the logits of every position of a list of token ids, for tests and scripts.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>

#include "apps/commands.h"
#include "apps/load.h"
#include "apps/options.h"
#include "engine/evaluate.h"

namespace baize::apps {

namespace {

struct LogitsArgs {
  EngineConfig config{.parallel = 1};
  std::string model;
  std::vector<Token> ids;
  std::vector<int64_t> chunks;
  bool json = false;
};

// Every float in the shortest form that reads back as the same float; JSON has no NaN or infinity: null.
void print_json(std::span<const float> logits, size_t vocab) {
  fmt::memory_buffer out;
  fmt::format_to(std::back_inserter(out), "{{\"vocab\": {}, \"logits\": [", vocab);
  for (size_t i = 0; i < logits.size(); ++i) {
    out.append(std::string_view(i % vocab != 0 ? ", " : i > 0 ? "],\n[" : "["));
    if (std::isfinite(logits[i])) {
      fmt::format_to(std::back_inserter(out), "{}", logits[i]);
    } else {
      out.append(std::string_view("null"));
    }
  }
  out.append(std::string_view("]]}\n"));
  std::fwrite(out.data(), 1, out.size(), stdout);
}

// The most likely next tokens behind every position.
void print_table(std::span<const float> logits, std::span<const Token> ids, size_t vocab) {
  constexpr size_t kShown = 5;
  std::vector<Token> order(vocab);
  for (size_t row = 0; row < ids.size(); ++row) {
    const auto values = logits.subspan(row * vocab, vocab);
    std::iota(order.begin(), order.end(), 0);
    const auto higher = [&](Token a, Token b) {
      return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
    };
    const size_t shown = std::min(kShown, vocab);
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(), higher);
    fmt::print("{:5} {:7}  ->", row, ids[row]);
    for (size_t i = 0; i < shown; ++i) fmt::print("  {}: {:.4f}", order[i], values[static_cast<size_t>(order[i])]);
    fmt::print("\n");
  }
}

void run(const LogitsArgs& args) {
  const LoadedModel loaded = load_model(open_model(args.model, args.config), args.config);
  const std::vector<float> logits = evaluate(loaded.model, *loaded.backend, loaded.compute, args.ids, args.chunks);
  const auto vocab = static_cast<size_t>(loaded.model->spec.dims.vocab);
  if (args.json) {
    print_json(logits, vocab);
  } else {
    print_table(logits, args.ids, vocab);
  }
}

}  // namespace

void add_logits_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("logits", "Print the logits of every position of some token ids");
  const auto args = std::make_shared<LogitsArgs>();
  command->add_option("model", args->model, "GGUF file, model folder, or name in the store")->required();
  command->add_option("--ids", args->ids, "token ids, separated by commas")->required()->delimiter(',');
  command->add_option("--chunks", args->chunks, "feed the ids in pieces of these lengths (default: one piece)")
      ->delimiter(',');
  command->add_flag("--json", args->json, "print {\"vocab\": V, \"logits\": [[...], ...]}");
  add_engine_options(*command, args->config);
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
