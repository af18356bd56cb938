// `baize list`: shows the models in the store. Called by main on the main thread.
#pragma once

namespace CLI {
class App;
}

namespace baize::apps {

/// Adds the subcommand; it runs while CLI11 parses, and throws baize::Error.
void add_list_command(CLI::App& app);

}  // namespace baize::apps
