#include "apps/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace baize::apps::interrupt {

namespace {

std::atomic<bool> g_came{false};
std::atomic<std::atomic<bool>*> g_cancel{nullptr};
// A pipe that the signal handler writes to. A read alone would sleep on if the signal came just before it, or to
// another thread.
std::array<int, 2> g_pipe{-1, -1};
static_assert(std::atomic<bool>::is_always_lock_free);  // may be used in a signal handler

void on_interrupt(int) {
  const int error = errno;
  g_came = true;
  const ssize_t ignored = ::write(g_pipe[1], "", 1);  // a full pipe wakes as well
  static_cast<void>(ignored);
  errno = error;
  if (std::atomic<bool>* cancel = g_cancel) *cancel = true;
}

}  // namespace

void install() {
  if (::pipe2(g_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) g_pipe = {-1, -1};  // then Ctrl-C waits for a key
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
}

bool pending() { return g_came; }

bool take() { return g_came.exchange(false); }

bool wait_readable(int fd) {
  while (!pending()) {
    std::array<pollfd, 2> both{{{fd, POLLIN, 0}, {g_pipe[0], POLLIN, 0}}};
    if (::poll(both.data(), both.size(), -1) < 0 && errno != EINTR) return true;  // reading will tell what is wrong
    std::array<char, 64> old{};
    if (both[1].revents != 0 && ::read(g_pipe[0], old.data(), old.size()) > 0)
      continue;  // of this Ctrl-C or an older one
    if (both[0].revents != 0) return true;
  }
  return false;
}

Cancels::Cancels(RequestHandle& handle) {
  g_cancel = &handle.cancel_flag();
  if (g_came) handle.cancel();
}

Cancels::~Cancels() { g_cancel = nullptr; }

}  // namespace baize::apps::interrupt
