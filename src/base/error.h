// Error: the one exception type for everything a user, a file, a network or a lack of memory can cause.
// The message says what went wrong, where, and what to do; it becomes one line and an exit code in the CLI
// and the dialect's error JSON over HTTP. For our own bugs use CHECK (base/check.h). Thread-safe: immutable.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace baize {

enum class ErrorKind {
  kInvalidArgument,  // the caller asked for something that makes no sense; exit code 2
  kNotFound,         // a file, model or name that is not there; exit code 3
  kCorrupt,          // bytes that break their format; exit code 4
  kUnsupported,      // valid, but Baize cannot do it; exit code 5
  kResource,         // memory, disk space, context length; exit code 6
  kIo,               // the operating system refused; exit code 7
  kNetwork,          // a remote side refused, broke off or lied; exit code 8
  kBusy,             // too much waits already: try again later; exit code 9
  kCancelled,        // stopped on request; exit code 130
};

/// "invalid_argument", "not_found", ...: stable names for logs, JSON and metrics.
const char* to_string(ErrorKind kind);

/// Process exit code of an error of this kind (see the enum).
int exit_code(ErrorKind kind);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws Error{kind, fmt::format(format, args...)}.
template <typename... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace baize
