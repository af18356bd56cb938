// Progress: how a pull tells its caller what it does and asks whether to stop. The caller owns it; a pull calls it on
// the thread that called pull().
#pragma once

#include <cstdint>
#include <string_view>

namespace baize::store {

class Progress {
 public:
  virtual ~Progress() = default;

  /// A file begins: its path in the model, its size (-1: not known yet), its place among the model's files (from 1).
  virtual void begin(std::string_view file, int64_t bytes, int index, int count);

  /// `done` bytes of the file are in the store; `bytes` as in begin(). Called often; `done` falls when a file starts
  /// over.
  virtual void update(int64_t done, int64_t bytes);

  /// The file that began is complete.
  virtual void end();

  /// One line for people: a retry, a wait for another process.
  virtual void note(std::string_view line);

  /// True once the user wants to stop; the pull then throws Error(kCancelled) and keeps what can be resumed.
  virtual bool cancelled();
};

/// Throws Error(kCancelled) when progress.cancelled().
void stop_if_cancelled(Progress& progress);

}  // namespace baize::store
