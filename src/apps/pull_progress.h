// PullProgress: what `baize pull` prints to standard error while it works: one bar that redraws itself on a terminal,
// plain lines elsewhere. Owned by the command; main thread only.
#pragma once

#include <csignal>
#include <cstdint>
#include <string>
#include <string_view>

#include "store/progress.h"

namespace baize::apps {

class PullProgress : public store::Progress {
 public:
  /// `stop` becomes non-zero (by a signal handler) when the user wants to stop.
  explicit PullProgress(const volatile std::sig_atomic_t& stop);

  void begin(std::string_view file, int64_t bytes, int index, int count) override;
  void update(int64_t done, int64_t bytes) override;
  void end() override;
  void note(std::string_view line) override;
  bool cancelled() override;

  /// Takes the bar off the terminal, so that other lines can follow.
  void clear();

 private:
  double speed(double now) const;
  std::string bar_line(double now) const;
  void print_bar(double now);
  void print_line(std::string_view text);

  const volatile std::sig_atomic_t& stop_;
  bool terminal_;
  bool bar_shown_ = false;
  std::string label_;
  int64_t bytes_ = -1;
  int64_t done_ = 0;
  int64_t first_done_ = -1;  // where this run took the file over; bytes before it cost no time
  double began_ = 0;
  double printed_ = 0;
};

}  // namespace baize::apps
