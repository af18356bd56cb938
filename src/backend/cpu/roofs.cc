#include "backend/cpu/roofs.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/host_memory.h"

namespace baize::cpu {

namespace {

constexpr double kSeconds = 0.06;  // of one try; the best of kTries counts
constexpr int kTries = 5;
constexpr int64_t kStep = 1024;  // bytes

// Keeps results alive.
std::atomic<int64_t> g_sink;

// Operations (or bytes) a second when every worker does `work(thread, rounds)`, one round of which is `size` of them.
template <typename Work>
double best_rate(ThreadPool& pool, double size, const Work& work) {
  double best = 0;
  for (int64_t rounds = 1, tries = 0; tries < kTries;) {
    const double start = now_seconds();
    pool.run([&](int thread, int) { g_sink += work(thread, rounds); });
    const double seconds = now_seconds() - start;
    if (seconds < kSeconds) {
      rounds *= seconds < kSeconds / 10 ? 8 : 2;
      continue;
    }
    best = std::max(best, size * static_cast<double>(rounds) * pool.size() / seconds);
    ++tries;
  }
  return best;
}

// Far beyond any cache.
double read_bandwidth(ThreadPool& pool, const RoofKernels& kernels) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const int64_t bytes = std::clamp(host_memory().available / 4, int64_t{1} << 24, kMost);
  const int64_t part = bytes / pool.size() / kStep * kStep;
  const Buffer buffer = Buffer::host(bytes);
  auto* data = static_cast<std::byte*>(buffer.data());
  pool.run([&](int thread, int) { std::fill_n(data + thread * part, part, std::byte{1}); });
  return best_rate(pool, static_cast<double>(part), [&](int thread, int64_t rounds) {
    int64_t sum = 0;
    for (int64_t i = 0; i < rounds; ++i) sum += kernels.read(data + thread * part, part);
    return sum;
  });
}

}  // namespace

std::vector<Roof> measure_roofs(ThreadPool& pool, const RoofKernels& kernels) {
  const double f32 = best_rate(pool, static_cast<double>(kernels.f32_round_operations),
                               [&](int, int64_t rounds) { return static_cast<int64_t>(kernels.f32(rounds)); });
  const double int8 = best_rate(pool, static_cast<double>(kernels.int8_round_operations),
                                [&](int, int64_t rounds) { return kernels.int8(rounds); });
  return {{"read", read_bandwidth(pool, kernels) / 1e9, "GB/s"},
          {"f32", f32 / 1e9, "GFLOP/s"},
          {"int8", int8 / 1e9, "GOP/s"}};
}

}  // namespace baize::cpu
