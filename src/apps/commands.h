// The commands of the `baize` program, one file each (cmd_*.cc). Each adds a subcommand whose callback does the work
// and throws baize::Error; main.cc turns that into one line and an exit code. Main thread.
#pragma once

#include <CLI/App.hpp>

namespace baize::apps {

void add_run_command(CLI::App& program);
void add_serve_command(CLI::App& program);
void add_inspect_command(CLI::App& program);
void add_bench_command(CLI::App& program);
void add_bench_serve_command(CLI::App& bench);  // of the bench command
void add_generate_command(CLI::App& program);
void add_logits_command(CLI::App& program);
void add_convert_command(CLI::App& program);

}  // namespace baize::apps
