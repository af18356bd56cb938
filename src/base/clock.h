// Monotonic time in seconds, for durations only. Any thread.
#pragma once

#include <chrono>

namespace baize {

/// Seconds since an arbitrary fixed point.
inline double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace baize
