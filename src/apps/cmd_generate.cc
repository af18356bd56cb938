// baize generate: continues a list of token ids, for tests and scripts; needs no tokenizer.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <memory>

#include "apps/checkpoint_defaults.h"
#include "apps/commands.h"
#include "apps/load.h"
#include "apps/options.h"
#include "base/random.h"

namespace baize::apps {

namespace {

struct GenerateArgs {
  EngineConfig config{.parallel = 1};
  SamplingOverrides sampling;
  std::string model;
  std::vector<Token> ids;
  std::vector<Token> stop_ids;
  int64_t max_tokens = 128;
  int64_t min_tokens = 0;
  bool stop_eos = false;
  bool json = false;
};

GenRequest make_request(const GenerateArgs& args, const Checkpoint& checkpoint) {
  GenRequest request;
  request.prompt = args.ids;
  const CheckpointDefaults defaults = checkpoint_defaults(checkpoint);
  request.sampling = defaults.sampling;
  args.sampling.apply(request.sampling);
  if (!args.sampling.has("seed")) request.sampling.seed = random_seed();
  request.max_tokens = args.max_tokens;
  request.min_tokens = args.min_tokens;
  request.stop_ids = args.stop_ids;
  if (args.stop_eos) {
    request.stop_ids.insert(request.stop_ids.end(), defaults.stop_ids.begin(), defaults.stop_ids.end());
  }
  return request;
}

void run(const GenerateArgs& args) {
  const auto checkpoint = open_model(args.model, args.config);
  GenRequest request = make_request(args, *checkpoint);
  const LoadedModel loaded = load_model(checkpoint, args.config);
  const std::unique_ptr<Engine> engine = loaded.make_engine();
  RequestHandle handle = engine->submit(std::move(request));
  std::vector<Token> ids;
  while (true) {
    Event event = handle.next();
    if (const Error* error = std::get_if<Error>(&event)) throw *error;
    if (const Done* done = std::get_if<Done>(&event)) {
      if (done->stop_id.has_value()) ids.push_back(*done->stop_id);
      break;
    }
    const std::vector<Token>& tokens = std::get<Tokens>(event).ids;
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }
  if (args.json) {
    fmt::print("{{\"ids\": [{}]}}\n", fmt::join(ids, ", "));
  } else {
    fmt::print("{}\n", fmt::join(ids, " "));
  }
}

}  // namespace

void add_generate_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("generate", "Continue a list of token ids");
  const auto args = std::make_shared<GenerateArgs>();
  command->add_option("model", args->model, "GGUF file, model folder, or name in the store")->required();
  command->add_option("--ids", args->ids, "token ids of the prompt, separated by commas")->required()->delimiter(',');
  command->add_option("--max-tokens", args->max_tokens, "new tokens at most")->capture_default_str();
  command->add_option("--min-tokens", args->min_tokens, "no end token before that many new tokens");
  command->add_option("--stop-ids", args->stop_ids, "end when one of these ids is drawn")->delimiter(',');
  command->add_flag("--stop-eos", args->stop_eos, "end at the checkpoint's end tokens (the end token is printed)");
  command->add_flag("--json", args->json, "print {\"ids\": [...]}: the new ids");
  add_sampling_options(*command, args->sampling);
  add_engine_options(*command, args->config);
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
