// baize run: chats with a model in the terminal, or answers one prompt.
#include <unistd.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <future>
#include <iostream>
#include <iterator>
#include <memory>

#include "apps/chat.h"
#include "apps/checkpoint_defaults.h"
#include "apps/commands.h"
#include "apps/interrupt.h"
#include "apps/load.h"
#include "apps/options.h"
#include "apps/repl.h"
#include "base/clock.h"
#include "base/error.h"

namespace baize::apps {

namespace {

struct RunArgs {
  EngineConfig config{.parallel = 1};
  SamplingOverrides sampling;
  ChatSettings settings;
  std::string model, prompt;
  bool verbose = false;
};

// What is piped in belongs to the prompt.
std::string read_stdin() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string whole_prompt(const std::string& prompt) {
  if (isatty(STDIN_FILENO) != 0) return prompt;
  const std::string piped = read_stdin();
  if (prompt.empty() || piped.empty()) return prompt + piped;
  return prompt + "\n\n" + piped;
}

ChatSettings make_settings(const RunArgs& args, const Checkpoint& checkpoint) {
  ChatSettings settings = args.settings;
  settings.sampling = checkpoint_defaults(checkpoint).sampling;
  args.sampling.apply(settings.sampling);
  if (args.sampling.has("seed")) settings.seed = settings.sampling.seed;
  return settings;
}

void run(const RunArgs& args) {
  const double start = now_seconds();
  const bool chatting = args.prompt.empty() && isatty(STDIN_FILENO) != 0;
  const std::string prompt = whole_prompt(args.prompt);
  if (!chatting && prompt.empty()) fail(ErrorKind::kInvalidArgument, "the prompt is empty: give one, or pipe one in");

  const auto checkpoint = open_model(args.model, args.config);
  std::future<ModelText> opening_text = std::async(std::launch::async, [&] { return open_text(*checkpoint); });
  const LoadedModel loaded = load_model(checkpoint, args.config);
  const ModelText text = opening_text.get();
  const std::unique_ptr<Engine> engine = loaded.make_engine();
  if (args.verbose) {
    fmt::print(stderr, "[{}; context {} tokens; loaded in {:.3f} s]\n", loaded.backend->info().name, engine->context(),
               now_seconds() - start);
  }

  Chat chat(*engine, text, make_settings(args, *checkpoint));
  interrupt::install();
  const bool show_speed = args.verbose || (isatty(STDERR_FILENO) != 0 && isatty(STDOUT_FILENO) != 0);
  const int code = chatting                                  ? Repl(chat, args.model, show_speed).run()
                   : ask_and_print(chat, prompt, show_speed) ? 0
                                                             : exit_code(ErrorKind::kCancelled);
  if (code != 0) throw CLI::RuntimeError(code);
}

}  // namespace

void add_run_command(CLI::App& program) {
  CLI::App* command = program.add_subcommand("run", "Chat with a model, or answer one prompt");
  const auto args = std::make_shared<RunArgs>();
  command->add_option("model", args->model, "GGUF file, model folder, or name in the store")->required();
  command->add_option("prompt", args->prompt, "what to answer (default: what is piped in, or a chat)");
  const auto setting = [&](const char* name, const char* help) {
    const auto set = [args, name](const std::string& value) { change_setting(args->settings, name, value); };
    command->add_option_function<std::string>(option_name(name), set, help)->take_last()->group("Chat");
  };
  setting("system", "system message");
  setting("max_tokens", "longest answer in tokens");
  setting("min_tokens", "shortest answer in tokens");
  setting("think", "whether a model that can think before it answers does: on, off, auto");
  command->add_option("--stop", args->settings.stop, "text that ends an answer (may be given again)")
      ->allow_extra_args(false)
      ->group("Chat");
  const auto add_variables = [args](const std::vector<std::string>& assignments) {
    for (const std::string& assignment : assignments) add_variable(args->settings, assignment);
  };
  command->add_option_function<std::vector<std::string>>("--var", add_variables, "variable of the chat template")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false)
      ->group("Chat");
  command->add_flag("-v,--verbose", args->verbose, "show loading time and speed also when not on a terminal");
  add_sampling_options(*command, args->sampling);
  add_engine_options(*command, args->config);
  command->callback([args] { run(*args); });
}

}  // namespace baize::apps
