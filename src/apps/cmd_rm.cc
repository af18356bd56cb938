#include "apps/cmd_rm.h"

#include <CLI/App.hpp>

#include <memory>

#include "base/error.h"
#include "base/text.h"
#include "store/store.h"

namespace baize::apps {

namespace {
struct Options {
  std::vector<std::string> names;
  bool unused = false;
};

void run(const Options& options) {
  if (options.names.empty() && !options.unused) {
    fail(ErrorKind::kInvalidArgument, "name the models to remove (`baize list` shows them), or give --unused");
  }
  const store::Store models(store::Store::default_root());
  if (!options.names.empty()) {
    const store::RemoveResult removed = models.remove(options.names);
    fmt::print("Removed {}; freed {}.\n", fmt::join(removed.names, ", "), human_bytes(removed.freed));
  }
  if (options.unused) fmt::print("Removed what no model uses; freed {}.\n", human_bytes(models.remove_unused()));
}
}  // namespace

void add_rm_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("rm", "Remove models from this machine");
  const auto options = std::make_shared<Options>();
  command->add_option("NAME", options->names, "Names as `baize list` shows them");
  command->add_flag("--unused", options->unused, "Also remove unfinished downloads and contents no model uses");
  command->callback([options] { run(*options); });
}

}  // namespace baize::apps
