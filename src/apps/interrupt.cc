#include "apps/interrupt.h"

#include <csignal>

namespace baize::apps::interrupt {

namespace {

std::atomic<bool> g_came{false};
std::atomic<std::atomic<bool>*> g_cancel{nullptr};
static_assert(std::atomic<bool>::is_always_lock_free);  // may be used in a signal handler

void on_interrupt(int) {
  g_came = true;
  if (std::atomic<bool>* cancel = g_cancel) *cancel = true;
}

}  // namespace

void install() {
  struct sigaction action{};
  action.sa_handler = on_interrupt;  // without SA_RESTART: reading a line ends
  sigaction(SIGINT, &action, nullptr);
}

bool pending() { return g_came; }

bool take() { return g_came.exchange(false); }

Cancels::Cancels(RequestHandle& handle) {
  g_cancel = &handle.cancel_flag();
  if (g_came) handle.cancel();
}

Cancels::~Cancels() { g_cancel = nullptr; }

}  // namespace baize::apps::interrupt
