#include "backend/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include <fstream>

namespace baize::cpu {

namespace {

constexpr int kSpins = 20000;       // pauses, some hundred microseconds, before a worker sleeps
constexpr int kCallerSpins = 2000;  // before the caller lets others run: a worker may be waiting for this processor

inline void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int read_topology(int cpu, const char* what) {
  std::ifstream in("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/" + what);
  int value = -1;
  in >> value;
  return in ? value : -1;
}

// Physical cores among the processors this process may run on.
int usable_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  std::set<std::pair<int, int>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const int core = read_topology(cpu, "core_id");
    cores.insert(core < 0 ? std::pair(-1, cpu) : std::pair(read_topology(cpu, "physical_package_id"), core));
  }
  return std::max(1, static_cast<int>(cores.size()));
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = usable_cores();
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(mutex_);
    stop_.store(true);
    epoch_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& w : workers_) w.join();
}

void ThreadPool::run_erased(Erased call, const void* body) {
  const int threads = size();
  if (threads == 1) return call(body, 0, 1);
  const std::lock_guard turn(callers_);
  call_ = call;
  body_ = body;
  running_.store(threads - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1);  // sequentially consistent with the sleeper's count: one of the two sees the other
  if (sleepers_.load() > 0) {
    {
      const std::lock_guard lock(mutex_);
    }
    wake_.notify_all();
  }
  call(body, 0, threads);
  for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kCallerSpins) {
      pause_core();
    } else {
      std::this_thread::yield();  // more workers than free processors
    }
  }
}

void ThreadPool::worker(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int spin = 0; epoch_.load(std::memory_order_acquire) == seen; ++spin) {
      if (spin < kSpins) {
        pause_core();
        continue;
      }
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return epoch_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    ++seen;
    if (stop_.load()) return;
    call_(body_, thread, size());
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace baize::cpu
