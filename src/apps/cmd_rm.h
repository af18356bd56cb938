// `baize rm NAME...`: removes models from the store. Called by main on the main thread.
#pragma once

namespace CLI {
class App;
}

namespace baize::apps {

/// Adds the subcommand; it runs while CLI11 parses, and throws baize::Error.
void add_rm_command(CLI::App& app);

}  // namespace baize::apps
