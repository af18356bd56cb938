// The commands of the `baize` program, one file each (cmd_*.cc). Each adds a subcommand whose callback does the work
// and throws baize::Error; main.cc turns that into one line and an exit code. Main thread.
#pragma once

#include <CLI/App.hpp>

namespace baize {

void add_generate(CLI::App& program);
void add_logits(CLI::App& program);

inline void add_commands(CLI::App& program) {
  add_logits(program);
  add_generate(program);
}

}  // namespace baize
