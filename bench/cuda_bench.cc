// Speed of the CUDA backend on models of real shapes with random weights, through the one forward:
//   cuda_bench [1b|8b|8b-q4km|8b-fp8|30b-a3b ...] [--decode B,...] [--prefill N,...] [--prompts B] [--tokens N]
// Decode: batch B, prompts of 512, tokens/s = B * N / (T(N + 1 new tokens) - T(1 new token)), greedy, best of 2, host
// work included. Prefill: B prompts (1) of N. Floors: bytes of weights and cache over 4.27 TB/s; 720 TFLOP/s (fp8:
// 1,230).
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "base/text.h"
#include "cuda/cuda_cases.h"
#include "model/model.h"
#include "model/state.h"
#include "ops/philox.h"

namespace baize {
namespace {

constexpr double kBandwidth = 4.27e12, kFlops = 720e12, kFp8Flops = 1230e12;
constexpr int64_t kBlock = 16;

struct Config {
  const char* name;
  int64_t hidden, layers, heads, kv_heads, head_dim, ff, vocab;
  float theta;
  bool tied;
  bool q4km;  // llama.cpp's mix: Q4_K, with Q6_K for half of the v and down matrices and the head
  bool qk_norm = false;
  int64_t experts = 0, top_k = 0;  // of `ff` each; 0: a dense feed-forward
  bool fp8 = false;                // a scale a row; the head in bf16, as such checkpoints have it
};
// Shapes: Llama 3.2 1B, Llama 3.1 8B, Qwen3-30B-A3B.
constexpr Config kConfigs[] = {
    {"1b", 2048, 16, 32, 8, 64, 8192, 128256, 500000, true, false},
    {"8b", 4096, 32, 32, 8, 128, 14336, 128256, 500000, false, false},
    {"8b-q4km", 4096, 32, 32, 8, 128, 14336, 128256, 500000, false, true},
    {"8b-fp8", 4096, 32, 32, 8, 128, 14336, 128256, 500000, false, false, false, 0, 0, true},
    {"30b-a3b", 2048, 48, 32, 4, 128, 768, 151936, 1000000, false, false, true, 128, 8},
};

class Bench {
 public:
  Bench(Backend& backend, const Config& config) : backend_(backend), config_(config) { make_model(); }

  void decode(int64_t batch, int64_t tokens);
  void prefill(int64_t batch, int64_t length);
  int64_t weight_bytes() const { return weight_bytes_; }
  double flops_per_second() const { return config_.fp8 ? kFp8Flops : kFlops; }

 private:
  QuantFormat format(bool better, int64_t layer) const {
    if (config_.fp8) return QuantFormat::fp8(0);
    if (!config_.q4km) return QuantFormat::plain(DType::kBF16);
    const bool more = better && (layer < config_.layers / 8 || layer >= 7 * config_.layers / 8 ||
                                 (layer - config_.layers / 8) % 3 == 2);
    return QuantFormat::gguf(more ? GgufType::kQ6_K : GgufType::kQ4_K);
  }
  void* hold(int64_t bytes) {
    buffers_.push_back(backend_.allocate(bytes));
    return buffers_.back().data();
  }
  // Linears of one input side by side in memory, as a loader would put them.
  void fill(std::span<Linear> parts, std::span<const LinearShape> shapes, int64_t distinct_rows = 256);
  Norm norm(int64_t dim) {
    const std::vector<float> ones(static_cast<size_t>(dim), 1.0f);
    void* at = hold(dim * 4);
    backend_.upload(at, ones.data(), dim * 4);
    return {Tensor(at, DType::kF32, {dim}, backend_.place()), 1e-5f};
  }
  void make_model();
  FfnBlock dense(int64_t layer);
  MoeBlock mixture();
  Linear expert(const LinearShape& shape, char*& at);
  // Of all weights, what a step of so many rows is likely to read, and multiplies a row with.
  double bytes_read(int64_t rows) const;
  double params_used() const;
  void make_cache(int64_t batch, int64_t max_tokens);
  // One step over `rows` rows of `seqs` sequences from `first` on, at position `at`; leaves the tokens chosen.
  void step(int64_t first, int64_t seqs, int64_t rows, int64_t at);
  void prompts(int64_t batch, int64_t length);
  double seconds_for(int64_t batch, int64_t prompt, int64_t new_tokens);

  Backend& backend_;
  Config config_;
  Model model_;
  std::vector<Buffer> buffers_;
  int64_t weight_bytes_ = 0, linear_params_ = 0;  // without experts
  int64_t expert_params_ = 0;                     // of all experts
  std::map<int64_t, Buffer> blocks_of_;           // some random rows, by their length

  Buffer pool_, arrays_, arena_logits_;
  std::vector<KvView> views_;
  int64_t blocks_ = 0;
  std::unique_ptr<Ops> ops_;
  std::vector<int32_t> host_;
  std::vector<Token> chosen_;
  bool wait_ = true;  // for the tokens of each step
};

void Bench::fill(std::span<Linear> parts, std::span<const LinearShape> shapes, int64_t distinct_rows) {
  int64_t total = 0, scale_count = 0;
  std::vector<const Pack*> packs;
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].shape = shapes[i];
    packs.push_back(choose_kernels(backend_.linear_kernels(), Compute::kAuto, parts[i]));
    total += packs[i] != nullptr ? packs[i]->bytes(shapes[i]) : shapes[i].n * shapes[i].format.row_bytes(shapes[i].k);
    if (packs[i] != nullptr && packs[i]->scale_count != nullptr) scale_count += packs[i]->scale_count(shapes[i]);
    linear_params_ += shapes[i].n * shapes[i].k;
    weight_bytes_ += shapes[i].n * shapes[i].format.row_bytes(shapes[i].k);
  }
  auto* at = static_cast<char*>(hold(total));
  auto* scales_at = scale_count > 0 ? static_cast<float*>(hold(4 * scale_count)) : nullptr;
  for (size_t i = 0; i < parts.size(); ++i) {
    const LinearShape& s = shapes[i];
    const int64_t rows = std::min(s.n, distinct_rows);
    std::vector<std::byte> bytes = test::random_weights(s.format, rows, s.k);
    if (s.format.scheme == Scheme::kPlain) {  // about 1 / sqrt(k), so that activations keep their size
      for (size_t j = 0; j < bytes.size(); j += 2) {
        uint16_t v;
        std::memcpy(&v, &bytes[j], 2);
        v = f32_to_bf16(bf16_to_f32(v) / std::sqrt(static_cast<float>(s.k)));
        std::memcpy(&bytes[j], &v, 2);
      }
    }
    if (packs[i] != nullptr && packs[i]->scale_count != nullptr) {  // as small as above: codes have a size of 100
      const std::vector<float> scales(static_cast<size_t>(packs[i]->scale_count(s)),
                                      0.01f / std::sqrt(static_cast<float>(s.k)));
      backend_.upload(scales_at, scales.data(), std::ssize(scales) * 4);
      parts[i].scales = Tensor(scales_at, DType::kF32, {std::ssize(scales)}, backend_.place());
      scales_at += scales.size();
    }
    if (packs[i] != nullptr) {
      std::vector<std::byte> packed(static_cast<size_t>(packs[i]->bytes({s.format, rows, s.k})));
      packs[i]->repack({s.format, rows, s.k}, bytes.data(), packed.data(), 0, rows);
      bytes = std::move(packed);
    }
    const int64_t row_bytes = static_cast<int64_t>(bytes.size()) / rows;
    parts[i].w = Tensor(at, DType::kU8, {s.n * row_bytes}, backend_.place());
    for (int64_t row = 0; row < s.n; row += rows) {
      backend_.upload(at + row * row_bytes, bytes.data(), std::min(rows, s.n - row) * row_bytes);
    }
    at += s.n * row_bytes;
  }
}

FfnBlock Bench::dense(int64_t layer) {
  const Config& c = config_;
  FfnBlock f;
  f.ff = c.ff;
  f.gate_up.count = 2;
  const LinearShape up_shapes[] = {{format(false, layer), c.ff, c.hidden}, {format(false, layer), c.ff, c.hidden}};
  fill(std::span(f.gate_up.part).first(2), up_shapes);
  const LinearShape down_shape[] = {{format(true, layer), c.hidden, c.ff}};
  fill({&f.down, 1}, down_shape);
  return f;
}

// Copies of the same random rows, made on the device: tens of gigabytes take seconds.
Linear Bench::expert(const LinearShape& shape, char*& at) {
  constexpr int64_t kRows = 256;
  const int64_t row_bytes = shape.k * 2, bytes = shape.n * row_bytes;
  Buffer& block = blocks_of_[shape.k];
  if (block.bytes() == 0) {
    const std::vector<float> values = test::normals(kRows * shape.k, 1 / std::sqrt(static_cast<float>(shape.k)));
    std::vector<uint16_t> rounded(values.size());
    for (size_t i = 0; i < values.size(); ++i) rounded[i] = f32_to_bf16(values[i]);
    block = backend_.allocate(kRows * row_bytes);
    backend_.upload(block.data(), rounded.data(), kRows * row_bytes);
  }
  Linear linear;
  linear.shape = shape;
  choose_kernels(backend_.linear_kernels(), Compute::kAuto, linear);
  linear.w = Tensor(at, DType::kU8, {bytes}, backend_.place());
  for (int64_t done = 0; done < bytes; done += kRows * row_bytes) {
    backend_.copy(at + done, block.data(), std::min(kRows * row_bytes, bytes - done));
  }
  at += bytes;
  expert_params_ += shape.n * shape.k;
  return linear;
}

MoeBlock Bench::mixture() {
  const Config& c = config_;
  const QuantFormat bf16 = QuantFormat::plain(DType::kBF16);
  MoeBlock moe;
  const LinearShape router[] = {{bf16, c.experts, c.hidden}};
  fill({&moe.router, 1}, router);
  moe.route.top_k = c.top_k;
  moe.route.renormalise = true;
  auto* at = static_cast<char*>(hold(c.experts * 3 * c.ff * c.hidden * 2));
  for (int64_t e = 0; e < c.experts; ++e) {
    moe.gate.push_back(expert({bf16, c.ff, c.hidden}, at));
    moe.up.push_back(expert({bf16, c.ff, c.hidden}, at));
    moe.down.push_back(expert({bf16, c.hidden, c.ff}, at));
  }
  return moe;
}

double Bench::bytes_read(int64_t rows) const {
  if (config_.experts == 0) return static_cast<double>(weight_bytes_);
  const double left_out = 1 - static_cast<double>(config_.top_k) / static_cast<double>(config_.experts);
  return static_cast<double>(weight_bytes_) +
         2 * static_cast<double>(expert_params_) * (1 - std::pow(left_out, static_cast<double>(rows)));
}

double Bench::params_used() const {
  const double part =
      config_.experts == 0 ? 0 : static_cast<double>(config_.top_k) / static_cast<double>(config_.experts);
  return static_cast<double>(linear_params_) + part * static_cast<double>(expert_params_);
}

void Bench::make_model() {
  const Config& c = config_;
  model_.precision = backend_.precision(Compute::kAuto);
  model_.spec.dims = {c.hidden, c.vocab, 131072};
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::vector<float> frequencies(static_cast<size_t>(c.head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(c.theta, -2.0f * static_cast<float>(i) / static_cast<float>(c.head_dim));
  }
  void* inv_freq = hold(c.head_dim * 2);
  backend_.upload(inv_freq, frequencies.data(), c.head_dim * 2);
  for (int64_t l = 0; l < c.layers; ++l) {
    AttnSpec attn_spec;
    attn_spec.heads = c.heads;
    attn_spec.kv_heads = c.kv_heads;
    attn_spec.head_dim = c.head_dim;
    model_.spec.layers.push_back({{Sublayer{{}, attn_spec, {}}, Sublayer{{}, DenseFfn{c.ff, Activation::kSilu}, {}}}});
    BoundSublayer attn, ffn;
    AttnBlock a;
    a.args = {{c.heads, c.kv_heads, c.head_dim}, 1.0f / std::sqrt(static_cast<float>(c.head_dim)), 0, 0};
    a.qkv_args.shape = a.args.shape;
    a.qkv_args.rope.inv_freq = Tensor(inv_freq, DType::kF32, {c.head_dim / 2}, backend_.place());
    a.state = static_cast<size_t>(l);
    a.v_dim = c.head_dim;
    a.qkv.count = 3;
    const LinearShape qkv_shapes[] = {
        {format(false, l), q, c.hidden}, {format(false, l), kv, c.hidden}, {format(true, l), kv, c.hidden}};
    fill(std::span(a.qkv.part).first(3), qkv_shapes);
    const LinearShape o_shape[] = {{format(false, l), c.hidden, q}};
    fill({&a.o, 1}, o_shape);
    if (c.qk_norm) a.qkv_args.q_norm = a.qkv_args.k_norm = norm(c.head_dim);
    attn.pre = norm(c.hidden);
    attn.block = a;
    ffn.pre = norm(c.hidden);
    if (c.experts > 0) {
      ffn.block = mixture();
    } else {
      ffn.block = dense(l);
    }
    model_.layers.push_back({{attn, ffn}, {}, {}});
  }
  model_.final_norm = norm(c.hidden);
  const LinearShape head_shape[] = {
      {c.q4km ? QuantFormat::gguf(GgufType::kQ6_K) : QuantFormat::plain(DType::kBF16), c.vocab, c.hidden}};
  fill({&model_.head, 1}, head_shape);
  model_.embed.shape = {QuantFormat::plain(DType::kBF16), c.vocab, c.hidden};
  // What random layers add is much the same for all tokens; beside it the tokens must tell, or all choose the same
  // experts.
  if (c.experts > 0) model_.embed.alpha = 1000;
  if (c.tied) {
    model_.embed.w = model_.head.w;
  } else {
    Linear table;
    const LinearShape shape[] = {model_.embed.shape};
    const int64_t before = weight_bytes_;
    fill({&table, 1}, shape, c.experts > 0 ? 8192 : 256);  // alike tokens would choose the same experts
    weight_bytes_ = before;                                // a step reads one row a token of it
    linear_params_ -= c.vocab * c.hidden;
    model_.embed.w = table.w;
  }
}

void Bench::make_cache(int64_t batch, int64_t max_tokens) {
  ops_.reset();
  blocks_ = (max_tokens + kBlock - 1) / kBlock;
  const std::vector<StateNeed> needs = state_needs(model_.spec, model_.precision);
  const int64_t layer = needs[0].bytes * kBlock, page = layer * static_cast<int64_t>(needs.size());
  pool_ = Buffer();
  pool_ = backend_.allocate(page * blocks_ * batch);
  std::vector<StatePlace> places(needs.size());
  for (size_t i = 0; i < places.size(); ++i) {
    places[i] = {static_cast<char*>(pool_.data()) + static_cast<int64_t>(i) * layer,
                 backend_.place(),
                 blocks_ * batch,
                 page,
                 kBlock,
                 0};
  }
  views_ = kv_views(model_.spec, model_.precision, places);
}

void Bench::step(int64_t first, int64_t batch, int64_t rows, int64_t at) {
  const int64_t n = batch * rows;
  host_.clear();
  const auto add = [&](int64_t v) { host_.push_back(static_cast<int32_t>(v)); };
  std::vector<int64_t> starts;
  const auto begin = [&] {
    while (host_.size() % 64 != 0) host_.push_back(0);
    starts.push_back(static_cast<int64_t>(host_.size()));
  };
  begin();
  for (int64_t i = 0; i < n; ++i) {
    // Untrained models end in the same token for every sequence: its successor is another for each.
    const auto other = static_cast<int64_t>(
        uniform_draw(static_cast<uint64_t>(first + i / rows), static_cast<uint64_t>(at + i % rows)) * 100000);
    add(rows == 1 && !chosen_.empty() ? (std::max<Token>(chosen_[static_cast<size_t>(i)], 0) + other) % 100000 : other);
  }
  begin();
  for (int64_t i = 0; i < n; ++i) add(at + i % rows);
  begin();
  for (int64_t i = 0; i < n; ++i) add(i / rows);
  begin();
  for (int64_t s = 0; s <= batch; ++s) add(s * rows);
  begin();
  for (int64_t s = 0; s < batch; ++s) add(at + rows);
  begin();
  for (int64_t s = 0; s < batch; ++s) add((s + 1) * rows - 1);
  begin();
  for (int64_t i = 0; i < batch * blocks_; ++i) add(first * blocks_ + i);
  const auto bytes = static_cast<int64_t>(host_.size()) * 4;
  if (arrays_.bytes() < bytes) arrays_ = backend_.allocate(bytes + 65536);
  backend_.upload(arrays_.data(), host_.data(), bytes);
  const auto array = [&](size_t i, int64_t count) {
    return Tensor(static_cast<int32_t*>(arrays_.data()) + starts[i], DType::kI32, {count}, backend_.place());
  };
  StepInput input;
  input.rows = n;
  input.seqs = input.out_count = batch;
  input.max_kv_len = at + rows;
  input.ids = array(0, n);
  input.positions = array(1, n);
  input.row_seq = array(2, n);
  input.q_start = array(3, batch + 1);
  input.kv_len = array(4, batch);
  input.out_rows = array(5, batch);
  input.block_tables[0] = array(6, batch * blocks_).reshaped({batch, blocks_});
  input.kv = views_;
  const int64_t logits_bytes = batch * config_.vocab * 4;
  if (arena_logits_.bytes() < logits_bytes) arena_logits_ = backend_.allocate(logits_bytes);
  const Tensor logits(arena_logits_.data(), DType::kF32, {batch, config_.vocab}, backend_.place());
  if (!ops_) {
    const auto dry = backend_.make_ops(Compute::kAuto, Arena());
    StepInput largest = input;
    largest.max_kv_len = blocks_ * kBlock;
    forward(model_, largest, *dry, {logits});
    ops_ = backend_.make_ops(Compute::kAuto, Arena(backend_.allocate(2 * dry->cost().arena_bytes + (64 << 20))));
  }
  forward(model_, input, *ops_, {logits});
  if (!wait_) return;
  const std::vector<SampleRow> sample_rows(static_cast<size_t>(batch), SampleRow{{.temperature = 0}, {}, {}, {}});
  chosen_.assign(static_cast<size_t>(batch), -2);
  ops_->sample({sample_rows, chosen_}, logits);
}

// Whole prompts, as many in a step as make kStepRows.
void Bench::prompts(int64_t batch, int64_t length) {
  constexpr int64_t kStepRows = 16384;
  const int64_t rows = std::min(length, kStepRows), seqs = std::min(batch, kStepRows / rows);
  for (int64_t first = 0; first < batch; first += seqs) {
    for (int64_t at = 0; at < length; at += rows) {
      chosen_.clear();
      step(first, std::min(seqs, batch - first), std::min(rows, length - at), at);
    }
  }
}

double Bench::seconds_for(int64_t batch, int64_t prompt, int64_t new_tokens) {
  const auto start = std::chrono::steady_clock::now();
  prompts(batch, prompt);
  if (new_tokens > 1) chosen_.assign(static_cast<size_t>(batch), 1);
  for (int64_t i = 1; i < new_tokens; ++i) step(0, batch, 1, prompt + i - 1);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Bench::decode(int64_t batch, int64_t tokens) {
  make_cache(batch, 512 + std::max<int64_t>(tokens, 128) + 1);
  seconds_for(batch, 512, 4);  // warm: modules, algorithms, graphs
  double best = 1e9;
  for (int i = 0; i < 2; ++i) {
    const double one = seconds_for(batch, 512, 1);
    best = std::min(best, seconds_for(batch, 512, tokens + 1) - one);
  }
  const double rate = static_cast<double>(batch * tokens) / best;
  const Token last_token = chosen_[0];
  const double cache = static_cast<double>(batch * 576 * config_.layers * config_.kv_heads * config_.head_dim * 4);
  const double floor_s = std::max((bytes_read(batch) + cache) / kBandwidth,
                                  2.0 * static_cast<double>(batch) * params_used() / flops_per_second());
  // The same step again and again without waiting for its token: what the device alone takes, and the host alone.
  chosen_.assign(static_cast<size_t>(batch), 1);
  wait_ = false;
  constexpr int kRepeats = 20;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRepeats; ++i) step(0, batch, 1, 576);
  const double host = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kRepeats;
  wait_ = true;
  step(0, batch, 1, 576);
  const double device =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / (kRepeats + 1);
  fmt::print(
      "{:8} decode  B={:<4} {:10.1f} tok/s  {:8.3f} ms/step  {:5.1f} % of floor  token {}; alone: device {:.3f} ms, "
      "host {:.3f} ms\n",
      config_.name, batch, rate, 1e3 * best / static_cast<double>(tokens),
      100 * floor_s * rate / static_cast<double>(batch), last_token, 1e3 * device, 1e3 * host);
  std::fflush(stdout);
}

void Bench::prefill(int64_t batch, int64_t length) {
  make_cache(batch, length);
  double best = 1e9;
  for (int i = 0; i < 4; ++i) best = std::min(best, seconds_for(batch, length, 1));
  const double attention =
      2.0 * static_cast<double>(length * length * config_.heads * config_.head_dim * config_.layers);
  const double flops =
      (2.0 * (params_used() - static_cast<double>(config_.vocab * config_.hidden)) * static_cast<double>(length) +
       attention) *
      static_cast<double>(batch);
  const double floor_s = std::max(flops / flops_per_second(), bytes_read(batch * length) / kBandwidth);
  fmt::print("{:8} prefill {:>3} x {:<5} {:10.1f} tok/s  {:8.3f} ms       {:5.1f} % of floor  token {}\n", config_.name,
             batch, length, static_cast<double>(batch * length) / best, 1e3 * best, 100 * floor_s / best, chosen_[0]);
  std::fflush(stdout);
}

std::vector<int64_t> numbers(const std::string& text) {
  std::vector<int64_t> values;
  for (const std::string_view part : split(text, ',')) {
    if (!part.empty()) values.push_back(std::stoll(std::string(part)));
  }
  return values;
}

int run(int argc, char** argv) {
  std::vector<std::string> models;
  std::vector<int64_t> batches = {1}, lengths = {16, 4096};
  int64_t tokens = 128, prompts = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--decode") {
      batches = numbers(argv[++i]);
    } else if (arg == "--prefill") {
      lengths = numbers(argv[++i]);
    } else if (arg == "--prompts") {
      prompts = std::stoll(argv[++i]);
    } else if (arg == "--tokens") {
      tokens = std::stoll(argv[++i]);
    } else {
      models.push_back(arg);
    }
  }
  const std::unique_ptr<Backend> backend = make_cuda_backend(0);
  for (const Config& config : kConfigs) {
    if (std::find(models.begin(), models.end(), config.name) == models.end()) continue;
    Bench bench(*backend, config);
    for (const int64_t b : batches) bench.decode(b, tokens);
    for (const int64_t n : lengths) bench.prefill(prompts, n);
  }
  return 0;
}

}  // namespace
}  // namespace baize

int main(int argc, char** argv) {
  try {
    return baize::run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "cuda_bench: {}\n", e.what());
    return 1;
  }
}
