// Speed of the CPU's matrix kernels beside the machine's roofs. One row (decode) streams 65536 x 2048 weights, more
// than any cache holds; 4 rows and 512 rows (prefill) use 2048 x 2048. Counters come from the fastest run: GB/s of
// weights and per cent of the read bandwidth, GOP/s (a multiply-add is two) and per cent of the peak of the variant's
// int8 or f32 instructions. BAIZE_ISA picks the variant. Usage: linear_bench [--benchmark_filter=q4_0.*]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "backend/cpu/linear/pack.h"
#include "backend/cpu/linear/registry.h"
#include "backend/cpu/thread_pool.h"
#include "tensor/buffer.h"
#include "unit/linear_cases.h"

namespace baize::cpu {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The fastest of `times` runs, in seconds.
template <typename F>
double fastest(int times, const F& run) {
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    const double begin = now();
    run();
    best = std::min(best, now() - begin);
  }
  return best;
}

ThreadPool& pool_of(int threads) {
  static std::map<int, std::unique_ptr<ThreadPool>> pools;
  std::unique_ptr<ThreadPool>& pool = pools[threads];
  if (pool == nullptr) pool = std::make_unique<ThreadPool>(threads);
  return *pool;
}

// GB/s of reading 256 MB once.
double read_roof(int threads) {
  static std::map<int, double> known;
  double& roof = known[threads];
  if (roof == 0) {
    constexpr int64_t kWords = int64_t{32} << 20;
    Buffer memory = Buffer::host(kWords * 8);
    auto* words = static_cast<uint64_t*>(memory.data());
    std::fill_n(words, kWords, 1);
    uint64_t total = 0;
    const double seconds = fastest(20, [&] {
      std::atomic<uint64_t> sum{0};
      pool_of(threads).parallel_for(kWords, kWords / 64, [&](int64_t begin, int64_t end) {
        uint64_t s[16] = {};
        for (int64_t i = begin; i < end; i += 16) {
          for (int j = 0; j < 16; ++j) s[j] += words[i + j];
        }
        for (const uint64_t v : s) sum += v;
      });
      total += sum;
    });
    benchmark::DoNotOptimize(total);
    roof = static_cast<double>(kWords) * 8 / seconds / 1e9;
  }
  return roof;
}

struct Setup {
  Linear linear;
  std::vector<std::byte> stored;
  Buffer memory;
  std::vector<float> x, out;

  Setup(const QuantFormat& format, Compute compute, int64_t n, int64_t k, int64_t m) {
    std::mt19937 rng(1);
    linear.shape = {format, n, k};
    const Pack* pack = choose_kernels(linear_kernels(chosen_isa()), compute, linear);
    // One panel of random weights, repeated: quick to make.
    stored = random_weights(format, kPanelRows, k, rng);
    const int64_t panel = kPanelRows * format.row_bytes(k);
    memory = Buffer::host(panel * (n / kPanelRows));
    auto* to = static_cast<std::byte*>(memory.data());
    if (pack != nullptr) {
      pack->repack({format, kPanelRows, k}, stored.data(), to, 0, kPanelRows);
    } else {
      std::copy(stored.begin(), stored.end(), to);
    }
    for (int64_t i = 1; i < n / kPanelRows; ++i) std::copy_n(to, panel, to + i * panel);
    linear.w = Tensor(memory.data(), DType::kU8, {memory.bytes()});
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < m * k; ++i) x.push_back(normal(rng));
    out.resize(static_cast<size_t>(m * n));
  }
};

void multiply(benchmark::State& state, const QuantFormat& format, Compute compute) {
  const int64_t n = state.range(0), k = state.range(1), m = state.range(2);
  const auto threads = static_cast<int>(state.range(3));
  Setup setup(format, compute, n, k, m);
  const LinearKernel& kernel = setup.linear.kernel(m);
  std::vector<std::byte> workspace(static_cast<size_t>(kernel.workspace(setup.linear.shape, m)));
  CpuExec exec(pool_of(threads));
  const LinearCall call{
      &setup.linear, Tensor(setup.x.data(), DType::kF32, {m, k}), Tensor(setup.out.data(), DType::kF32, {m, n}), {}};
  double best = 1e9;
  for (auto _ : state) {
    best = std::min(best, fastest(1, [&] { kernel.run(exec, {&call, 1}, workspace.data()); }));
  }
  const double bytes = static_cast<double>(setup.memory.bytes());
  const double ops = 2.0 * static_cast<double>(n) * static_cast<double>(k) * static_cast<double>(m);
  state.counters["GB/s"] = bytes / best / 1e9;
  state.counters["%read"] = 100 * bytes / best / 1e9 / read_roof(threads);
  state.counters["GOP/s"] = ops / best / 1e9;
  state.SetLabel(kernel.name);
}

void add_benchmarks() {
  for (const QuantFormat& format : all_formats()) {
    for (const Compute compute : {Compute::kAuto, Compute::kExact}) {
      const std::string name = format.name() + (compute == Compute::kAuto ? "/auto" : "/exact");
      auto* b = benchmark::RegisterBenchmark(
          name.c_str(), [format, compute](benchmark::State& state) { multiply(state, format, compute); });
      b->ArgNames({"n", "k", "m", "threads"})->UseRealTime()->MinTime(0.3);
      for (const int threads : {1, 2}) {
        b->Args({65536, 2048, 1, threads});
        b->Args({2048, 2048, 4, threads});
        b->Args({2048, 2048, 512, threads});
      }
    }
  }
}

}  // namespace
}  // namespace baize::cpu

int main(int argc, char** argv) {
  baize::cpu::add_benchmarks();
  benchmark::Initialize(&argc, argv);
  for (const int threads : {1, 2}) {
    std::printf("read roof, %d threads: %.1f GB/s\n", threads, baize::cpu::read_roof(threads));
  }
  benchmark::RunSpecifiedBenchmarks();
}
