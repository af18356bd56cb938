// ThreadPool: the worker threads of the CPU backend. The calling thread is worker 0; the others spin briefly between
// regions and then sleep, so that decode steps pay microseconds and an idle program uses no CPU. Any thread may call;
// callers take turns, a region at a time. Regions do not nest.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include <atomic>

#include "ops/linear.h"

namespace baize::cpu {

class ThreadPool {
 public:
  /// `threads` >= 1, counting the caller; 0 means one a physical core this process may use.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Runs body(thread, threads) on every worker and returns when all have returned. `body` must not throw.
  template <typename Body>
  void run(const Body& body) {
    run_erased([](const void* b, int thread, int threads) { (*static_cast<const Body*>(b))(thread, threads); }, &body);
  }

  /// Runs body(begin, end) over [0, count) in pieces of at most `grain`, handed to workers as they become free.
  template <typename Body>
  void parallel_for(int64_t count, int64_t grain, const Body& body) {
    if (count <= grain || size() == 1) {
      if (count > 0) body(int64_t{0}, count);
      return;
    }
    std::atomic<int64_t> next{0};
    run([&](int, int) {
      for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < count;) {
        body(begin, begin + grain < count ? begin + grain : count);
      }
    });
  }

 private:
  using Erased = void (*)(const void* body, int thread, int threads);
  void run_erased(Erased call, const void* body);
  void worker(int thread);

  std::mutex callers_;  // held during a region
  std::vector<std::thread> workers_;
  std::atomic<uint64_t> epoch_{0};  // a change starts a region
  std::atomic<int> running_{0};     // workers that have not finished the region
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  Erased call_ = nullptr;
  const void* body_ = nullptr;
};

/// The CPU backend's side of ops/linear.h: what its LinearKernels run on.
struct CpuExec : Exec {
  explicit CpuExec(ThreadPool& p) : pool(p) {}
  ThreadPool& pool;
};

}  // namespace baize::cpu
