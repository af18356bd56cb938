// Speed of the CPU backend's ops (products aside) over the shapes of tests/unit/op_shapes.h and of real models:
//   ops_bench [--benchmark_filter=REGEX]      BAIZE_ISA and BAIZE_THREADS choose the variant and the threads
// Attention over prompts reports GFLOP/s and its share of the fused multiply-add roof, measured first; decoding reports
// GB/s of cache read and its share of the memory roof. Multiply-adds count as two; only visible keys count. One thread
// is timed by its processor time, so that a busy machine disturbs less; several by the clock.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <ctime>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/thread_pool.h"
#include "base/clock.h"
#include "unit/op_step.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace baize {
namespace {

using namespace op_test;

int threads() {
  const char* wanted = std::getenv("BAIZE_THREADS");
  return wanted != nullptr ? std::atoi(wanted) : 0;
}

Backend& backend() {
  static const auto made = make_cpu_backend(threads());
  return *made;
}

// ---- roofs: best of several runs on all threads
// ----------------------------------------------------------------------

constexpr int64_t kRounds = 2'000'000;
constexpr int kSums = 12;  // independent chains: latency 4, two units

#define BAIZE_FMA_LOOP(vector, set, fma)                            \
  vector sums[kSums];                                               \
  for (auto& s : sums) s = set(1.0f);                               \
  const vector x = set(0.999f), y = set(1e-6f);                     \
  for (int64_t i = 0; i < kRounds; ++i) {                           \
    _Pragma("GCC unroll 12") for (auto& s : sums) s = fma(s, x, y); \
  }                                                                 \
  benchmark::DoNotOptimize(sums);                                   \
  return 2.0 * kRounds * kSums * (sizeof(vector) / sizeof(float))

#if defined(__x86_64__)
[[gnu::target("avx512f")]] double fma_avx512() { BAIZE_FMA_LOOP(__m512, _mm512_set1_ps, _mm512_fmadd_ps); }
[[gnu::target("avx2,fma")]] double fma_avx2() { BAIZE_FMA_LOOP(__m256, _mm256_set1_ps, _mm256_fmadd_ps); }
#endif
typedef float Vec4 __attribute__((vector_size(16)));
double fma_baseline() {
  const auto set = [](float v) { return v - Vec4{}; };
  const auto fma = [](Vec4 a, Vec4 b, Vec4 c) { return a * b + c; };
  BAIZE_FMA_LOOP(Vec4, set, fma);
}

double run_fma_loop(cpu::Isa isa) {
#if defined(__x86_64__)
  if (isa == cpu::Isa::kAvx512 || isa == cpu::Isa::kAmx) return fma_avx512();
  if (isa == cpu::Isa::kAvx2) return fma_avx2();
#endif
  return isa == cpu::Isa::kGeneric || isa == cpu::Isa::kNeon ? fma_baseline() : 0;
}

double seconds() {
  if (threads() != 1) return now_seconds();
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

template <typename Body>
double best_rate(const Body& body) {
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const double begin = seconds();
    const double amount = body();
    best = std::max(best, amount / (seconds() - begin));
  }
  return best;
}

double fma_roof() {  // FLOP/s
  static const double roof = [] {
    cpu::ThreadPool pool(threads());
    const cpu::Isa isa = cpu::chosen_isa();
    return best_rate([&] {
      std::vector<double> flops(static_cast<size_t>(pool.size()));
      pool.run([&](int thread, int) { flops[static_cast<size_t>(thread)] = run_fma_loop(isa); });
      return std::accumulate(flops.begin(), flops.end(), 0.0);
    });
  }();
  return roof;
}

double memory_roof() {  // bytes/s read
  static const double roof = [] {
    constexpr int64_t kBytes = int64_t{256} << 20;
    cpu::ThreadPool pool(threads());
    const Buffer buffer = Buffer::host(kBytes);
    auto* words = static_cast<uint64_t*>(buffer.data());
    std::fill_n(words, kBytes / 8, 1);
    return best_rate([&] {
      pool.parallel_for(kBytes / 8, 1 << 16, [&](int64_t begin, int64_t end) {
        uint64_t sums[8] = {};
        for (int64_t i = begin; i < end; i += 8) {
          for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
        }
        benchmark::DoNotOptimize(sums);
      });
      return static_cast<double>(kBytes);
    });
  }();
  return roof;
}

// ---- attention
// -------------------------------------------------------------------------------------------------------

struct Cost {
  double flops = 0;
  double cache_bytes = 0;
};

Cost cost_of(const AttnCase& c) {
  Cost cost;
  for (const SeqShape& seq : c.seqs) {
    for (int64_t position = seq.cached; position < seq.cached + seq.rows; ++position) {
      const int64_t keys = c.window > 0 ? std::min(c.window, position + 1) : position + 1;
      cost.flops += 4.0 * static_cast<double>(c.shape.heads * c.shape.head_dim * keys);
    }
    const int64_t last = seq.cached + seq.rows;
    const int64_t seen = c.window > 0 ? std::min(last, c.window + seq.rows - 1) : last;
    cost.cache_bytes += 4.0 * static_cast<double>(seen * c.shape.kv_heads * c.shape.head_dim);  // k and v, f16
  }
  return cost;
}

// Takes turns between enough caches that none stays in the processor's.
void attention(benchmark::State& state, const AttnCase& c) {
  constexpr double kCacheBytes = 100e6;
  const Cost cost = cost_of(c);
  const bool decode = std::all_of(c.seqs.begin(), c.seqs.end(), [](const SeqShape& s) { return s.rows == 1; });
  const auto layers =
      decode && !getenv("HOT") ? static_cast<size_t>(std::clamp(kCacheBytes / cost.cache_bytes, 1.0, 200.0)) : 1;
  std::vector<std::unique_ptr<PagedStep>> steps;
  for (size_t i = 0; i < layers; ++i) {
    steps.push_back(std::make_unique<PagedStep>(c.seqs, c.shape, c.block, c.window, DType::kF16));
    steps.back()->fill_cache(1);
  }
  const Shape shape = {steps[0]->input.rows, c.shape.heads, c.shape.head_dim};
  const HostTensor q = random_tensor(shape, 2), out(DType::kF32, shape);
  const AttnArgs args{c.shape, 1 / std::sqrt(static_cast<float>(c.shape.head_dim)), c.softcap, c.window};

  const auto dry = backend().make_ops(Compute::kAuto, Arena());
  dry->begin_step(steps[0]->input);
  dry->attention(args, q, steps[0]->kv, out);
  dry->end_step();
  const auto ops = backend().make_ops(Compute::kAuto, Arena(backend().allocate(dry->cost().arena_bytes)));
  const double roof = decode ? memory_roof() : fma_roof();
  size_t next = 0;
  for (auto _ : state) {
    const PagedStep& step = *steps[next++ % layers];
    ops->begin_step(step.input);
    ops->attention(args, q, step.kv, out);
    ops->end_step();
  }
  const double amount = decode ? cost.cache_bytes : cost.flops;
  const auto rate = [](double per_call) {
    return benchmark::Counter(per_call, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters[decode ? "GB/s" : "GFLOP/s"] = rate(amount * 1e-9);
  state.counters["roof%"] = rate(100 * amount / roof);
}

std::vector<AttnCase> model_cases() {
  const AttnShape smollm{9, 3, 64}, llama_1b{32, 8, 64}, llama_8b{32, 8, 128}, gemma{8, 4, 256};
  std::vector<AttnCase> all;
  for (const auto& [name, shape] : {std::pair("smollm", smollm), {"llama_1b", llama_1b}, {"llama_8b", llama_8b}}) {
    all.push_back({fmt::format("{}/prompt_512", name), shape, {{0, 512}}});
    all.push_back({fmt::format("{}/prompt_512_of_4096", name), shape, {{3584, 512}}});
    for (const int64_t length : {128, 512, 4096}) {
      all.push_back({fmt::format("{}/token_{}", name, length), shape, {{length - 1, 1}}});
    }
  }
  all.push_back({"gemma/prompt_512", gemma, {{0, 512}}, 32, 0, 50});
  all.push_back({"gemma/window_512_prompt_512", gemma, {{3584, 512}}, 32, 512});
  return all;
}

// ---- row-wise ops
// ----------------------------------------------------------------------------------------------------

// Times `body(ops)` in one step; `bytes` are read and written by a call.
template <typename Body>
void time_rows(benchmark::State& state, const StepInput& input, double bytes, const Body& body) {
  const auto ops = backend().make_ops(Compute::kAuto, Arena(backend().allocate(256)));
  ops->begin_step(input);
  for (auto _ : state) body(*ops);
  ops->end_step();
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void norm(benchmark::State& state, const RowCase& c) {
  const HostTensor x = random_tensor({c.rows, c.width}, 1), weight = random_tensor({c.width}, 2);
  const HostTensor sum = random_tensor({c.rows, c.width}, 3), out(DType::kF32, {c.rows, c.width});
  std::fill_n(x.f32(), x.size(), 0.0f);  // so that sums do not grow
  time_rows(state, rows_step(c.rows), 16.0 * static_cast<double>(c.rows * c.width),
            [&](Ops& ops) { ops.add_norm(sum, x, {weight, 1e-5f}, out); });
}

void gated(benchmark::State& state, const RowCase& c, Activation activation) {
  const HostTensor x = random_tensor({c.rows, 2 * c.width}, 1), out(DType::kF32, {c.rows, c.width});
  time_rows(state, rows_step(c.rows), 12.0 * static_cast<double>(c.rows * c.width),
            [&](Ops& ops) { ops.gated_activation(x, activation, out); });
}

void rope_store(benchmark::State& state, const RopeCase& c) {
  PagedStep step(c.seqs, c.shape, c.block, 0, DType::kF16);
  const int64_t width = (c.shape.heads + 2 * c.shape.kv_heads) * c.shape.head_dim;
  const HostTensor qkv = random_tensor({step.input.rows, width}, 1), weight = random_tensor({c.shape.head_dim}, 2);
  const HostTensor q(DType::kF32, {step.input.rows, c.shape.heads, c.shape.head_dim});
  const HostTensor inv_freq = random_tensor({c.rot_dim / 2}, 3);
  QkvArgs args{.shape = c.shape, .q_norm = {}, .k_norm = {}, .rope = {}};
  if (c.norms) args.q_norm = args.k_norm = {weight, 1e-6f};
  if (c.rot_dim > 0) args.rope = {.inv_freq = inv_freq, .interleaved = c.interleaved};
  time_rows(state, step.input, 8.0 * static_cast<double>(step.input.rows * width),
            [&](Ops& ops) { ops.qk_norm_rope_store(args, qkv, step.kv, q); });
}

void sample(benchmark::State& state, int64_t vocab, const SampleParams& params) {
  const HostTensor logits = random_tensor({1, vocab}, 1, 3);
  const SampleRow row{params, {}, {}};
  Token token = 0;
  time_rows(state, rows_step(1), 4.0 * static_cast<double>(vocab),
            [&](Ops& ops) { ops.sample({{&row, 1}, {&token, 1}}, logits); });
}

void register_all() {
  const auto add = [](const std::string& name, auto&&... args) {
    auto* made = benchmark::RegisterBenchmark(name.c_str(), args...);
    if (threads() != 1) made->UseRealTime();
  };
  for (const AttnCase& c : model_cases()) add("attention/" + c.name, attention, c);
  for (const AttnCase& c : attention_cases()) add("attention/shapes/" + c.name, attention, c);
  std::vector<RowCase> rows = row_cases();
  rows.insert(rows.end(), {{1, 1536}, {1, 8192}, {512, 576}, {512, 1536}, {512, 8192}});
  for (const RowCase& c : rows) {
    const std::string shape = fmt::format("{}x{}", c.rows, c.width);
    add("add_norm/" + shape, norm, c);
    add("silu/" + shape, gated, c, Activation::kSilu);
    add("gelu_tanh/" + shape, gated, c, Activation::kGeluTanh);
  }
  std::vector<RopeCase> ropes = rope_cases();
  ropes.push_back({"llama_prompt", {9, 3, 64}, 64, false, false, 1, 0, 0, {{0, 512}}});
  for (const RopeCase& c : ropes) add("qk_norm_rope_store/" + c.name, rope_store, c);
  for (const int64_t vocab : {49152, 128256, 262144}) {
    add(fmt::format("sample/greedy/{}", vocab), sample, vocab, SampleParams{.temperature = 0});
    add(fmt::format("sample/plain/{}", vocab), sample, vocab, SampleParams{});
    add(fmt::format("sample/top_k_40/{}", vocab), sample, vocab, SampleParams{.top_k = 40, .top_p = 0.95f});
    add(fmt::format("sample/top_p/{}", vocab), sample, vocab, SampleParams{.top_p = 0.9f});
    add(fmt::format("sample/typical/{}", vocab), sample, vocab, SampleParams{.typical_p = 0.9f});
    add(fmt::format("sample/min_p/{}", vocab), sample, vocab, SampleParams{.min_p = 0.05f});
  }
}

}  // namespace
}  // namespace baize

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  baize::register_all();
  fmt::print("{}: {:.0f} GFLOP/s f32, {:.1f} GB/s\n", baize::backend().info().name, baize::fma_roof() * 1e-9,
             baize::memory_roof() * 1e-9);
  benchmark::RunSpecifiedBenchmarks();
}
