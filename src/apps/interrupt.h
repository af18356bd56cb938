// Ctrl-C in an interactive program: it cancels the answer that is being made, or else is remembered until asked for.
// install() replaces the process's SIGINT handler; the rest belongs to the main thread.
#pragma once

#include <atomic>

#include "engine/request.h"

namespace baize::apps::interrupt {

/// From now on Ctrl-C no longer ends the process.
void install();

/// Whether Ctrl-C came since the last take().
bool pending();
bool take();

/// Waits until this descriptor can be read: false if Ctrl-C came, before or meanwhile.
bool wait_readable(int fd);

/// While it lives, Ctrl-C cancels this request.
class Cancels {
 public:
  explicit Cancels(RequestHandle& handle);
  ~Cancels();
  Cancels(const Cancels&) = delete;
  Cancels& operator=(const Cancels&) = delete;
};

}  // namespace baize::apps::interrupt
