// The `baize` program: parses the command line, runs one command, turns errors into one line and an exit code.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>

#include "apps/cmd_list.h"
#include "apps/cmd_pull.h"
#include "apps/cmd_rm.h"
#include "apps/commands.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace baize {

namespace {

constexpr int kUsageError = 2;

int report(const char* message, int code) {
  std::fflush(stdout);
  fmt::print(stderr, "baize: {}\n", message);
  return code;
}

// `baize help` and `baize help COMMAND`, which people try first.
void add_help_command(CLI::App& program) {
  CLI::App* help = program.add_subcommand("help", "Print this help, or that of a command");
  const auto name = std::make_shared<std::string>();
  help->add_option("command", *name, "a command");
  help->callback([&program, name] {
    const CLI::App* about = name->empty() ? &program : nullptr;
    for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; })) {
      if (command->get_name() == *name) about = command;
    }
    if (about == nullptr) fail(ErrorKind::kInvalidArgument, "there is no command \"{}\" (see baize --help)", *name);
    // App::help would print the help of `help` itself, being the command that was given.
    const std::string title = about == &program ? "baize" : "baize " + *name;
    fmt::print("{}", about->get_formatter()->make_help(about, title, CLI::AppFormatMode::Normal));
  });
}

// A misspelt command would otherwise be told to be an argument too many.
void check_command(const CLI::App& program, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> known;
  for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == argv[1]) return;
    known.push_back(command->get_name());
  }
  fail(ErrorKind::kInvalidArgument, "there is no command \"{}\"; the closest are {} (see baize --help)", argv[1],
       fmt::join(closest_names(argv[1], known), ", "));
}

// CLI11 looks into the file before it looks into the environment.
std::string config_of_environment() {
  const char* file = std::getenv("BAIZE_CONFIG");
  if (file == nullptr || *file == '\0') return {};
  if (!std::filesystem::is_regular_file(file))
    fail(ErrorKind::kNotFound, "BAIZE_CONFIG names {}, which is no file", file);
  return file;
}

int run_program(int argc, char** argv) {
  CLI::App program("Baize runs large language models on this machine.", "baize");
  program.set_version_flag("--version", "baize " + std::string(apps::kVersion));
  program.set_help_all_flag("--help-all", "Print the help of every command");
  program.require_subcommand(0, 1);
  init_logging("warn");
  program
      .add_option_function<std::string>(
          "--log", [](const std::string& level) { init_logging(level); },
          "messages on standard error: debug, info, warn (default), error or off")
      ->envname("BAIZE_LOG");
  program.set_config("--config", config_of_environment(),
                     "settings file: NAME = VALUE, options of a command under [COMMAND]; also BAIZE_CONFIG");
  program.allow_config_extras(CLI::config_extras_mode::error);
  apps::add_run_command(program);
  apps::add_serve_command(program);
  apps::add_pull_command(program);
  apps::add_list_command(program);
  apps::add_rm_command(program);
  apps::add_inspect_command(program);
  apps::add_convert_command(program);
  apps::add_bench_command(program);
  apps::add_generate_command(program);
  apps::add_logits_command(program);
  add_help_command(program);
  program.add_subcommand("version", "Print the version")->callback([] { fmt::print("baize {}\n", apps::kVersion); });
  check_command(program, argc, argv);
  try {
    program.parse(argc, argv);
    if (program.get_subcommands().empty()) fmt::print("{}", program.help());
  } catch (const CLI::Success& help) {
    return program.exit(help);
  } catch (const CLI::RuntimeError& end) {  // a command chose its exit code
    return end.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return report(fmt::format("{} (see baize --help)", error.what()).c_str(), kUsageError);
  }
  if (std::fflush(stdout) != 0) fail(ErrorKind::kIo, "cannot write to standard output");
  return 0;
}

// Runs the program; an exception becomes one sentence and an exit code.
int answer(int argc, char** argv) {
  try {
    return run_program(argc, argv);
  } catch (const Error& error) {
    return report(error.what(), exit_code(error.kind()));
  } catch (const std::bad_alloc&) {
    return report("out of memory", exit_code(ErrorKind::kResource));
  } catch (const std::exception& error) {
    return report(error.what(), exit_code(ErrorKind::kIo));
  }
}

}  // namespace

}  // namespace baize

int main(int argc, char** argv) { return baize::answer(argc, argv); }
