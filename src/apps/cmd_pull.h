// `baize pull SOURCE`: fetches a model into the store. Called by main on the main thread.
#pragma once

namespace CLI {
class App;
}

namespace baize::apps {

/// Adds the subcommand; it runs while CLI11 parses, and throws baize::Error.
void add_pull_command(CLI::App& app);

}  // namespace baize::apps
