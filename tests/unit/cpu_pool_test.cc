// The thread pool: every index once, whoever calls, and no CPU while idle.
#include <gtest/gtest.h>

#include <ctime>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"

namespace baize {
namespace {

using cpu::ThreadPool;

TEST(ThreadPool, RunReachesEveryWorkerOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (int region = 0; region < 200; ++region) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
      pool.run([&](int thread, int count) {
        EXPECT_EQ(count, threads);
        calls[static_cast<size_t>(thread)].fetch_add(1);
      });
      for (const auto& n : calls) ASSERT_EQ(n.load(), 1);
    }
  }
}

TEST(ThreadPool, ParallelForCoversEveryIndexOnce) {
  ThreadPool pool(4);
  for (const int64_t count : {0, 1, 7, 64, 1000}) {
    for (const int64_t grain : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
        EXPECT_LT(begin, end);
        EXPECT_LE(end - begin, std::max(count, grain));
        for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
      });
      for (const auto& n : seen) ASSERT_EQ(n.load(), 1);
    }
  }
}

TEST(ThreadPool, SeveralCallersTakeTurns) {
  ThreadPool pool(3);
  std::atomic<int64_t> total{0};
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 4; ++caller) {
      callers.emplace_back([&] {
        for (int i = 0; i < 50; ++i) {
          pool.parallel_for(100, 7, [&](int64_t begin, int64_t end) { total.fetch_add(end - begin); });
        }
      });
    }
  }
  EXPECT_EQ(total.load(), 4 * 50 * 100);
}

TEST(ThreadPool, WorksAfterItsWorkersSlept) {
  ThreadPool pool(3);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    std::atomic<int> calls{0};
    pool.run([&](int, int) { calls.fetch_add(1); });
    EXPECT_EQ(calls.load(), 3);
  }
}

double process_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Waits for an interval in which the process used next to no CPU; workers that never slept would burn all of each.
TEST(ThreadPool, UsesNoCpuWhileIdle) {
  ThreadPool pool(4);
  pool.run([](int, int) {});
  double used = 1;
  for (int attempt = 0; attempt < 100 && used > 1e-3; ++attempt) {
    const double before = process_cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    used = process_cpu_seconds() - before;
  }
  EXPECT_LT(used, 1e-3);
}

TEST(CpuBackend, ParallelForCutsAtMultiplesOfTheStep) {
  const auto backend = make_cpu_backend(3);
  for (const int64_t count : {0, 1, 31, 32, 33, 1000}) {
    for (const int64_t step : {1, 8, 32}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      backend->parallel_for(count, step, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % step, 0);
        EXPECT_TRUE(end % step == 0 || end == count);
        for (int64_t i = begin; i < end; ++i) seen[static_cast<size_t>(i)].fetch_add(1);
      });
      for (const auto& n : seen) ASSERT_EQ(n.load(), 1);
    }
  }
}

TEST(CpuBackend, DescribesItself) {
  const auto backend = make_cpu_backend(2, cpu::Isa::kGeneric);
  EXPECT_EQ(backend->name(), "cpu");
  const DeviceInfo info = backend->info();
  EXPECT_TRUE(info.name.ends_with(", 2 threads, generic")) << info.name;
  EXPECT_GT(info.memory_bytes, int64_t{16} << 20);
  EXPECT_GT(info.free_bytes, 0);
  EXPECT_LE(info.free_bytes, info.memory_bytes);
  EXPECT_EQ(backend->precision(Compute::kExact).kv, DType::kF32);
  EXPECT_EQ(backend->precision(Compute::kAuto).kv, DType::kF16);
  const Buffer memory = backend->allocate(100);
  const char text[] = "bytes there and back";
  char back[sizeof(text)] = {};
  backend->upload(memory.data(), text, sizeof(text));
  backend->download(back, memory.data(), sizeof(text));
  EXPECT_STREQ(back, text);
}

}  // namespace
}  // namespace baize
