// Running a helper program and reading what it prints. Its standard input is empty. One call is one thread's business.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "store/files.h"

namespace baize::store {

struct ProcessResult {
  int status = 0;      // exit status; 128 + signal number when a signal ended it
  std::string errors;  // the last 8 kB of its standard error
};

struct ProcessCall {
  std::vector<std::string> arguments;                            // [0] is looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  std::function<void(std::span<const char>)> output;             // pieces of its standard output; may throw
  std::function<void()> tick;                                    // about five times a second; may throw
};

/// Runs the program to its end. When a callback throws, the program is ended and the exception passes on.
/// Throws Error(kNotFound) when there is no such program, Error(kIo) when none can be started.
ProcessResult run_process(const ProcessCall& call);

}  // namespace baize::store
