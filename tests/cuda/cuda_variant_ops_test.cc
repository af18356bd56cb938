// The ops that few models need, on the device against the reference: odd sizes, ragged batches, strided and poisoned
// tensors, in f32 and in bf16. Needs a GPU to run.
#include <gtest/gtest.h>

#include <bit>
#include <functional>

#include "cuda/cuda_pairs.h"

namespace baize {
namespace {

using namespace test;

const std::vector<SeqCase> kOne = {{0, 1}};
const std::vector<SeqCase> kRagged = {{0, 5}, {13, 1}, {40, 9}, {0, 1}, {2, 21}};

class CudaVariantOpsTest : public PairTest {
 protected:
  static Tensor of(const Pair& p, bool on_device) { return on_device ? p.device : p.host; }
  Pair ints(const std::vector<int32_t>& values, const Shape& shape) {
    return {device_.ints(values).reshaped(shape), host_.ints(values).reshaped(shape)};
  }
  static std::vector<int32_t> fetch_ints(Pool& pool, const Tensor& t) {
    Tensor bits = t;
    bits.dtype = DType::kF32;
    std::vector<int32_t> values;
    for (const float v : pool.fetch(bits)) values.push_back(std::bit_cast<int32_t>(v));
    return values;
  }
  void expect_equal(const Pair& p) { EXPECT_EQ(fetch_ints(device_, p.device), fetch_ints(host_, p.host)); }
  /// Runs an op of rows that needs no sequences.
  void rowwise(const std::function<void(Ops&, bool)>& body) { both(step(kOne), body); }
  static Pair columns(const Pair& p, int64_t begin, int64_t count) {
    return {p.device.columns(begin, count), p.host.columns(begin, count)};
  }
  Pair frequencies(int64_t rot) {
    std::vector<float> values(static_cast<size_t>(rot / 2));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(rot));
    }
    return pair(values, DType::kF32, {rot / 2});
  }
  double loose_ = exact_ ? 1e-9 : 5e-5;  // several results, each rounded to bf16
};

TEST_P(CudaVariantOpsTest, LayerNorm) {
  for (const int64_t dim : {8, 33, 576, 5120}) {
    for (const bool center : {true, false}) {
      const Pair x = f32({7, dim + 3}), w = f32({dim}), b = f32({dim}), out = poison(precision_.act, {7, dim});
      rowwise([&](Ops& ops, bool d) {
        const Norm norm{.weight = of(w, d), .eps = 1e-5f, .center = center, .bias = of(b, d)};
        ops.norm(of(x, d).columns(1, dim), norm, of(out, d));
        ops.norm(of(x, d).columns(1, dim), norm, of(x, d).columns(1, dim));  // in place
      });
      expect_close(out, loose_);
      expect_close(x, loose_);
    }
  }
}

TEST_P(CudaVariantOpsTest, Activate) {
  for (int kind = 0; kind <= static_cast<int>(Activation::kIdentity); ++kind) {
    ActArgs args{.kind = static_cast<Activation>(kind), .limit = kind % 2 == 0 ? 1.5f : 0.0f};
    args.up_shift = kind % 3 == 0 ? 1.0f : 0.0f;
    args.sparsity = kind % 4 == 1 ? 0.7f : 0.0f;
    args.alpha_p = 0.8f, args.alpha_n = 0.6f, args.beta = 0.5f, args.eps = -1e-6f;
    for (const int64_t ff : {7, 300, 1536}) {
      const Pair x = act({5, 2 * ff}, 2), out = poison(precision_.act, {5, ff}), own = act({5, ff}, 2);
      rowwise([&](Ops& ops, bool d) {
        ops.activate(args, of(x, d), of(out, d));
        const Tensor copy = ops.temp(of(own, d).dtype, {5, ff});
        ops.scale(of(own, d), {}, 1, copy);
        ops.activate(args, copy, copy);
        ops.add(of(out, d), copy);
      });
      SCOPED_TRACE("activation " + std::to_string(kind) + " of " + std::to_string(ff));
      expect_close(out, loose_);
    }
  }
}

TEST_P(CudaVariantOpsTest, GateScaleSumClampMix) {
  for (const int64_t n : {6, 96, 1000}) {
    const Pair x = act({9, n}), by = act({9, n / 2}), vector = f32({n}), one = f32({1});
    const Pair residual = pair(normals(9 * n), precision_.residual, {9, n}), out = poison(precision_.act, {9, 2 * n});
    rowwise([&](Ops& ops, bool d) {
      ops.gate(of(x, d), of(by, d), Activation::kSigmoid);
      ops.add_vector(of(x, d), of(vector, d));
      ops.clamp(of(x, d), 1.25f);
      ops.scale(of(residual, d), of(one, d), 0.5f, of(residual, d));
      ops.scale(of(residual, d), of(vector, d), 2, of(out, d).columns(0, n));
      ops.mix(of(x, d), of(out, d).columns(0, n), of(vector, d), of(out, d).columns(n, n));
    });
    expect_close(x, loose_);
    expect_close(residual, loose_);
    expect_close(out, loose_);
  }
}

TEST_P(CudaVariantOpsTest, PositionsAndDecay) {
  const Step s = step(kRagged);
  const int64_t rows = s.device.rows;
  const Pair table = f32({60, 24}), residual = pair(normals(rows * 24), precision_.residual, {rows, 24});
  const Pair a = act({rows, 30}), decay = poison(DType::kF32, {rows, 24});
  const Pair rate = pair({0.5f, 1.5f, 0.1f, 3}, DType::kF32, {4}), bias = f32({24});
  both(s, [&](Ops& ops, bool d) {
    ops.add_positions(of(table, d), 2, of(residual, d));
    ops.decay({of(rate, d), of(bias, d), 0.2f, 2}, of(a, d).columns(3, 24), of(decay, d));
  });
  expect_close(residual, loose_);
  expect_close(a, loose_);
  expect_close(decay, loose_);
}

TEST_P(CudaVariantOpsTest, Route) {
  using Score = RouteArgs::Score;
  struct Case {
    int64_t experts;
    RouteArgs args;
    bool bias = false, table = false;
  };
  const auto args = [](Score score, int64_t top_k, bool renormalise) {
    RouteArgs made;
    made.score = score;
    made.top_k = top_k;
    made.renormalise = renormalise;
    return made;
  };
  const auto grouped = [](RouteArgs made, int64_t groups, int64_t top_groups, bool by_two) {
    made.groups = groups;
    made.top_groups = top_groups;
    made.group_by_two = by_two;
    return made;
  };
  RouteArgs scaled = args(Score::kSoftmax, 8, false), last = args(Score::kLogit, 4, false);
  RouteArgs mixer = args(Score::kSoftmax, 2, false);
  scaled.scale = 2.5f;
  last.softmax_last = true;
  mixer.sparse_mixer = 0.01f;
  const std::vector<Case> cases = {
      {8, args(Score::kSoftmax, 2, true)},
      {64, scaled},
      {128, last},
      {256, grouped(args(Score::kSigmoid, 8, true), 8, 4, true), true},
      {60, grouped(args(Score::kSoftmax, 6, false), 5, 2, false)},
      {5, args(Score::kSqrtSoftplus, 5, true), true},
      {16, mixer},
      {16, args(Score::kSigmoid, 3, false), false, true},
      {1, args(Score::kSoftmax, 1, false)},
  };
  const Step s = step(kRagged);
  const int64_t rows = s.device.rows;
  for (const Case& c : cases) {
    const Pair logits = act({rows, c.experts}, 2), bias = f32({c.experts});
    const Pair weights = poison(DType::kF32, {rows, c.args.top_k});
    const Pair ids = ints(std::vector<int32_t>(static_cast<size_t>(rows * c.args.top_k), -7), {rows, c.args.top_k});
    std::vector<int32_t> by_token(static_cast<size_t>(97 * c.args.top_k));
    for (size_t i = 0; i < by_token.size(); ++i) by_token[i] = static_cast<int32_t>((i * 5 + 3) % 16);
    const Pair table = ints(by_token, {97, c.args.top_k});
    both(s, [&](Ops& ops, bool d) {
      RouteArgs choice = c.args;
      if (c.bias) choice.bias = of(bias, d);
      if (c.table) choice.by_token = of(table, d);
      ops.route(choice, of(logits, d), {of(ids, d), of(weights, d)});
    });
    SCOPED_TRACE("experts " + std::to_string(c.experts));
    expect_equal(ids);
    expect_close(weights, 1e-10);
  }
}

// Experts in the formats and shapes of real models, few and many rows an expert, one that nobody chooses.
struct ExpertCase {
  QuantFormat format;
  int64_t rows, experts, top_k, k, ff;
  bool gate = true, fused = false, bias = false, weigh_input = false;
};

TEST_P(CudaVariantOpsTest, Experts) {
  const auto block = [](GgufType type) { return QuantFormat::gguf(type); };
  const QuantFormat bf16 = QuantFormat::plain(DType::kBF16);
  const std::vector<ExpertCase> cases = {
      {bf16, 1, 8, 2, 64, 40},
      {bf16, 3, 5, 2, 72, 33, true, true, true},
      {bf16, 70, 4, 2, 256, 96, true, false, false, true},
      {bf16, 33, 6, 3, 37, 20, false},
      {QuantFormat::plain(DType::kF32), 20, 7, 2, 48, 31, true, true, true, true},
      {QuantFormat::plain(DType::kF16), 2, 16, 4, 512, 128},
      {block(GgufType::kQ4_K), 2, 4, 2, 512, 256},
      {block(GgufType::kQ4_0), 5, 3, 2, 1280, 64, true, false, true},
      {block(GgufType::kQ8_0), 50, 3, 2, 96, 64},
      {block(GgufType::kQ6_K), 9, 4, 1, 256, 256, false},
      {block(GgufType::kMXFP4), 4, 8, 4, 64, 96, true, true, true},
      {bf16, 600, 8, 2, 64, 40},
      {QuantFormat::fp8(0), 2, 4, 2, 256, 96},
      {QuantFormat::fp8(128), 50, 4, 2, 256, 128, true, true, true},
  };
  for (const ExpertCase& c : cases) {
    struct Side {
      std::vector<Linear> gate, up, down;
    } sides[2];
    const auto add = [&](std::vector<Linear> Side::* part, int64_t n, int64_t k, float alpha) {
      const std::vector<std::byte> bytes = random_weights(c.format, n, k);
      Linear on_gpu, on_host;
      on_gpu.shape = on_host.shape = {c.format, n, k};
      on_gpu.alpha = on_host.alpha = alpha;
      if (c.bias) {
        const Pair bias = f32({n});
        on_gpu.bias = bias.device;
        on_host.bias = bias.host;
      }
      const Pack* pack = choose_kernels(cuda().linear_kernels(), compute_, on_gpu);
      choose_kernels(ref().linear_kernels(), compute_, on_host);
      put_weights(device_, bytes, pack, on_gpu);
      on_host.w = host_.put(bytes);
      (sides[1].*part).push_back(on_gpu);
      (sides[0].*part).push_back(on_host);
    };
    for (int64_t e = 0; e < c.experts; ++e) {
      const float scale = 1 / std::sqrt(static_cast<float>(c.k));
      if (c.gate && !c.fused) add(&Side::gate, c.ff, c.k, scale);
      add(&Side::up, c.fused ? 2 * c.ff : c.ff, c.k, scale);
      add(&Side::down, c.k, c.ff, 0.5f);
    }
    const Pair x = act({c.rows, c.k}), out = poison(precision_.act, {c.rows, c.k});
    const Pair weights = f32({c.rows, c.top_k});
    std::vector<int32_t> chosen;
    for (int64_t i = 0; i < c.rows; ++i) {
      const auto first = static_cast<int64_t>(rng()() % static_cast<uint64_t>(c.experts));
      for (int64_t j = 0; j < c.top_k; ++j) {
        const int64_t id = (first + j) % c.experts;
        chosen.push_back(static_cast<int32_t>(id == 1 && c.top_k + 1 < c.experts ? (id + c.top_k) % c.experts : id));
      }
    }
    const Pair ids = ints(chosen, {c.rows, c.top_k});
    rowwise([&](Ops& ops, bool d) {
      const Side& side = sides[d ? 1 : 0];
      Experts experts{side.gate, side.up, side.down, {.kind = Activation::kSilu}, c.weigh_input};
      if (c.fused) experts.activation.limit = 2, experts.activation.up_shift = 1;
      ops.experts(experts, of(x, d), {of(ids, d), of(weights, d)}, of(out, d));
    });
    SCOPED_TRACE(c.format.name() + " rows " + std::to_string(c.rows) + " experts " + std::to_string(c.experts));
    expect_close(out, exact_ ? 1e-9 : 1e-4);
  }
}

struct VariantCase {
  AttnShape shape;
  int64_t v_dim;
  std::vector<SeqCase> seqs;
  int64_t window = 0;
  bool chunked = false, sinks = false, slopes = false, selected = false;
  float softcap = 0;
  bool layer_norm = false, head_norms = false, norm_last = false, v_norm = false;
  float temperature = 0;
  int64_t rot = 0;  // 0: none
  bool interleaved = false;
};

TEST_P(CudaVariantOpsTest, Attention) {
  const std::vector<VariantCase> cases = {
      {{8, 2, 64}, 64, kRagged, 0, false, true},
      {{8, 8, 32}, 32, kRagged, 0, false, false, true},
      {{6, 3, 48}, 48, kRagged, 8, true},
      {{4, 2, 40}, 24, kRagged, 0, false, false, false, false, 20, true},
      {{16, 1, 96}, 80, {{0, 130}, {700, 1}}, 0, false, false, false, true},
      {{16, 2, 64}, 64, {{900, 1}, {2000, 1}, {0, 1}, {70, 1}}, 0, false, true},
      {{5, 1, 128}, 200, {{300, 2}, {0, 40}}, 70, false, true},
      {{4, 4, 64}, 512, kRagged, 0, false, false, false, false, 0, false, true},
      {{3, 3, 16}, 600, kRagged, 0, false, false, false, false, 0, false, false, false, true},
      {{8, 2, 64}, 64, kRagged, 0, false, true, false, false, 0, true, false, true, true, 0.3f, 32},
      {{8, 4, 24}, 24, {{0, 300}}, 64, false, true, false, false, 0, false, true, false, false, 0, 24, true},
  };
  for (const VariantCase& c : cases) {
    const auto [heads, kv_heads, dim] = c.shape;
    constexpr int32_t kBlock = 8;
    const Step s = step(c.seqs, kBlock);
    const int64_t rows = s.device.rows, keys = s.device.max_kv_len, count = std::min<int64_t>(keys, 9);
    const Pair qkv = act({rows, heads * dim + kv_heads * (dim + c.v_dim) + 5});
    const Pair q = poison(precision_.act, {rows, heads, dim}), out = poison(precision_.act, {rows, heads, c.v_dim});
    const Pair q_norm = f32({heads, dim}), k_norm = f32({kv_heads, dim}), wide = f32({dim}), v_norm = f32({c.v_dim});
    const Pair inv_freq = frequencies(std::max<int64_t>(2, c.rot)), sinks = f32({heads}), slopes = f32({heads});
    std::vector<int32_t> chosen(static_cast<size_t>(rows * count), -1);
    const std::vector<int32_t> positions = fetch_ints(host_, s.host.positions);
    for (int64_t r = 1; r < rows; ++r) {  // the first row sees nothing
      for (int64_t i = 0; i < count && 3 * i <= positions[static_cast<size_t>(r)]; ++i) {
        chosen[static_cast<size_t>(r * count + i)] = static_cast<int32_t>(3 * i);
      }
    }
    const Pair selected = ints(chosen, {rows, count});
    const int64_t page = kv_heads * kBlock * (dim + c.v_dim);
    const Pair cache = pair(normals(s.pages * page), precision_.kv, {s.pages * page});
    const auto view = [&](const Tensor& memory) {
      KvView kv;
      kv.k = Tensor(memory.data, memory.dtype, {s.pages, kBlock, kv_heads, dim}, memory.place);
      kv.k.strides = {page, dim, kBlock * dim, 1};
      kv.v = Tensor(memory.data, memory.dtype, {s.pages, kBlock, kv_heads, c.v_dim}, memory.place);
      kv.v.strides = {page, c.v_dim, kBlock * c.v_dim, 1};
      kv.v.data = static_cast<char*>(memory.data) + kv_heads * kBlock * dim * dtype_bytes(memory.dtype);
      return kv;
    };
    both(s, [&](Ops& ops, bool d) {
      QkvArgs prepare;
      prepare.shape = c.shape;
      if (c.layer_norm) prepare.q_norm = {of(wide, d), 1e-5f, true, of(wide, d)};
      if (c.head_norms) prepare.q_norm = {of(q_norm, d), 1e-5f, true}, prepare.k_norm = {of(k_norm, d), 1e-5f};
      if (c.v_norm) prepare.v_norm = {of(v_norm, d), 1e-5f};
      if (c.rot > 0) prepare.rope = {.inv_freq = of(inv_freq, d), .scale = 1.1f, .interleaved = c.interleaved};
      prepare.norm_last = c.norm_last;
      prepare.temperature = {c.temperature, 4, 1};
      AttnArgs args{c.shape, 1 / std::sqrt(static_cast<float>(dim)), c.softcap, c.window, c.chunked};
      if (c.sinks) args.sinks = of(sinks, d);
      if (c.slopes) args.slopes = of(slopes, d);
      if (c.selected) args.selected = of(selected, d);
      const KvView kv = view(of(cache, d));
      ops.qk_norm_rope_store(prepare, of(qkv, d).columns(5, qkv.host.shape[1] - 5), kv, of(q, d));
      ops.attention(args, of(q, d), kv, of(out, d));
    });
    SCOPED_TRACE("case " + std::to_string(&c - cases.data()));
    expect_close(q, exact_ ? 1e-9 : 1e-5);
    expect_close(cache, exact_ ? 1e-9 : 1e-5);
    expect_close(out, exact_ ? 1e-9 : 1e-4);
  }
}

// Queries alone; heads that lie apart; and heads too large for the tuned kernels.
TEST_P(CudaVariantOpsTest, SharedKeysAndStridedHeads) {
  for (const int64_t dim : {24, 576}) {
    constexpr int32_t kBlock = 4;
    const Step s = step(kRagged, kBlock);
    const int64_t rows = s.device.rows, page = 2 * 2 * kBlock * dim;
    const Pair queries = act({rows, 4 * dim}), q = poison(precision_.act, {rows, 4, dim});
    const Pair inv_freq = frequencies(dim), out = act({rows, 4, 2 * dim});
    const Pair cache = pair(normals(s.pages * page), precision_.kv, {s.pages * page});
    both(s, [&](Ops& ops, bool d) {
      KvView kv;
      kv.k = Tensor(of(cache, d).data, of(cache, d).dtype, {s.pages, kBlock, 2, dim}, of(cache, d).place);
      kv.k.strides = {page, 2 * dim, dim, 1};
      kv.v = kv.k;
      kv.v.data = static_cast<char*>(kv.k.data) + page / 2 * dtype_bytes(kv.k.dtype);
      QkvArgs prepare;
      prepare.shape = {4, 2, dim};
      prepare.rope.inv_freq = of(inv_freq, d);
      prepare.store = false;
      ops.qk_norm_rope_store(prepare, of(queries, d), kv, of(q, d));
      Tensor half = of(out, d);
      half.shape = {rows, 4, dim};
      ops.attention({.shape = {4, 2, dim}, .scale = 0.1f, .window = 11}, of(q, d), kv, half);
    });
    expect_close(q, exact_ ? 1e-9 : 1e-5);
    expect_close(out, loose_);
  }
}

TEST_P(CudaVariantOpsTest, LatentStore) {
  for (const int64_t heads : {1, 5, 16}) {
    constexpr int32_t kBlock = 4;
    const Step s = step(kRagged, kBlock);
    const int64_t rows = s.device.rows, nope = 12, rot = 8, rank = 40, stored = rank + rot;
    const Pair queries = act({rows, heads * (nope + rot)}), kv = act({rows, stored}), inv_freq = frequencies(rot);
    const Pair q = act({rows, heads, stored});
    const Pair cache = pair(normals(s.pages * kBlock * stored), precision_.kv, {s.pages, kBlock, 1, stored});
    both(s, [&](Ops& ops, bool d) {
      LatentArgs args{heads, nope, rot, rank, {.inv_freq = of(inv_freq, d), .interleaved = heads == 5}};
      ops.latent_store(args, of(queries, d), of(kv, d), {of(cache, d), of(cache, d)}, of(q, d));
    });
    expect_close(q, exact_ ? 1e-9 : 1e-5);
    expect_close(cache, exact_ ? 1e-9 : 1e-5);
  }
}

TEST_P(CudaVariantOpsTest, Select) {
  const std::vector<SeqCase> seqs = {{0, 5}, {1500, 2}, {40, 9}, {0, 1}, {2, 21}};
  for (const int64_t top_k : {1, 7, 64, 1024}) {
    constexpr int32_t kBlock = 4;
    const Step s = step(seqs, kBlock);
    const int64_t rows = s.device.rows, heads = top_k == 7 ? 1 : 5, dim = 20,
                  count = std::min(top_k, s.host.max_kv_len);
    const Pair q = act({rows, heads, dim}), weights = act({rows, heads});
    const Pair cache = pair(normals(s.pages * kBlock * dim), precision_.kv, {s.pages, kBlock, 1, dim});
    const Pair selected = ints(std::vector<int32_t>(static_cast<size_t>(rows * count), -9), {rows, count});
    both(s, [&](Ops& ops, bool d) {
      ops.select({heads, dim, top_k}, of(q, d), of(weights, d), {of(cache, d), {}}, of(selected, d));
    });
    SCOPED_TRACE("top " + std::to_string(top_k));
    expect_equal(selected);
  }
}

// States of `values` floats a sequence, garbage where the sequence begins in this step.
class CudaStateOpsTest : public CudaVariantOpsTest {
 protected:
  Step s_ = step(kRagged);
  int64_t rows_ = s_.device.rows;
  Pair memory_{};

  void make_state(int64_t values) {
    std::vector<float> start = normals(s_.pages * values);
    const Tensor& table = s_.host.block_tables[0];
    for (size_t i = 0; i < kRagged.size(); ++i) {
      if (kRagged[i].before > 0) continue;
      const int64_t page = table.as<const int32_t>()[static_cast<int64_t>(i) * table.strides[0] + 1];
      std::fill_n(start.begin() + page * values, values, NAN);
    }
    memory_ = pair(start, DType::kF32, {s_.pages, values});
  }
  KvView state(bool on_device) const { return {.k = of(memory_, on_device), .v = {}, .group = 0, .column = 1}; }
};

TEST_P(CudaStateOpsTest, Convolution) {
  for (const int64_t width : {1, 2, 4, 8}) {
    const int64_t channels = 131;
    make_state(channels * (width - 1) + 3);
    const Pair x = act({rows_, channels + 9}), weight = f32({channels * width}), bias = f32({channels});
    both(s_, [&](Ops& ops, bool d) {
      ConvArgs args{width, Activation::kSilu, of(weight, d), width == 4 ? Tensor{} : of(bias, d), 0};
      ops.causal_conv(args, of(x, d).columns(4, channels), state(d));
    });
    expect_close(x, loose_);
  }
}

TEST_P(CudaStateOpsTest, LinearAttention) {
  struct Case {
    int64_t heads, key_heads, dk, dv;
    bool delta, unit, channel, decay, beta, rate, skip;
  };
  const std::vector<Case> cases = {
      {4, 2, 16, 24, true, true, false, true, true, false, false},   // gated delta rule
      {3, 3, 40, 20, true, true, true, true, true, false, false},    // KDA
      {8, 1, 64, 32, false, false, false, true, true, false, true},  // Mamba-2
      {2, 2, 128, 9, false, false, false, false, false, true, false},
      {2, 1, 200, 17, true, true, false, true, true, false, false},
      {1, 1, 300, 8, false, true, false, false, true, false, true},
  };
  for (const Case& c : cases) {
    make_state(c.heads * c.dk * c.dv);
    const Pair q = act({rows_, c.key_heads * c.dk + 3}), k = act({rows_, c.key_heads * c.dk}, 0.3f);
    const Pair v = act({rows_, c.heads * c.dv}), out = poison(precision_.act, {rows_, c.heads * c.dv});
    std::vector<float> fading = normals(rows_ * c.heads * (c.channel ? c.dk : 1)), steps = normals(rows_ * c.heads);
    for (float& f : fading) f = 1 / (1 + std::exp(f));
    for (float& f : steps) f = 1 / (1 + std::exp(f));
    const Pair decay = pair(fading, DType::kF32, {rows_, c.heads * (c.channel ? c.dk : 1)});
    const Pair beta = pair(steps, precision_.act, {rows_, c.heads}), skip = f32({c.heads});
    const Pair rate = pair(std::vector<float>(static_cast<size_t>(c.heads), 0.9f), DType::kF32, {c.heads});
    both(s_, [&](Ops& ops, bool d) {
      RecurrenceArgs args;
      args.heads = c.heads;
      args.key_heads = c.key_heads;
      args.key_dim = c.dk;
      args.value_dim = c.dv;
      args.delta = c.delta;
      args.unit_keys = c.unit;
      args.channel_decay = c.channel;
      args.q_scale = 0.25f;
      if (c.rate) args.rate = of(rate, d);
      if (c.skip) args.skip = of(skip, d);
      RecurrenceInputs in{of(q, d).columns(2, c.key_heads * c.dk), of(k, d), of(v, d), {}, {}};
      if (c.decay) in.decay = of(decay, d);
      if (c.beta) in.beta = of(beta, d);
      ops.recurrence(args, in, state(d), of(out, d));
    });
    SCOPED_TRACE("keys of " + std::to_string(c.dk));
    expect_close(out, loose_);
    expect_close(memory_, 1e-9);
  }
}

TEST_P(CudaStateOpsTest, SelectiveScan) {
  for (const int64_t n : {5, 16, 64, 130}) {
    const int64_t width = 37, offset = 11;
    make_state(width * n + offset);
    std::vector<float> rates = normals(width * n);
    for (float& r : rates) r = std::abs(r);
    const Pair rate = pair(rates, DType::kF32, {width * n}), skip = f32({width});
    const Pair x = act({rows_, width}), dt = act({rows_, width}), b = act({rows_, n + 1}), c = act({rows_, n});
    const Pair out = poison(precision_.act, {rows_, width});
    both(s_, [&](Ops& ops, bool d) {
      ops.selective_scan({n, of(rate, d), of(skip, d), offset}, {of(x, d), of(dt, d), of(b, d).columns(1, n), of(c, d)},
                         state(d), of(out, d));
    });
    expect_close(out, loose_);
  }
}

TEST_P(CudaStateOpsTest, LruShiftAndWkv) {
  const int64_t width = 150;
  make_state(5 * width);
  std::vector<float> rates = normals(width);
  for (float& r : rates) r = std::abs(r);
  const Pair rate = pair(rates, DType::kF32, {width}), first = f32({width});
  const Pair x = act({rows_, width}), enter = act({rows_, width}), keep = act({rows_, width});
  const Pair k = act({rows_, width}), v = act({rows_, width});
  const Pair shifted = poison(precision_.act, {rows_, width}), out = poison(precision_.act, {rows_, width});
  // What an earlier step leaves: sums of positive weights.
  std::vector<float> start = host_.fetch(memory_.host);
  for (float& f : start) f = std::abs(f);
  memory_ = pair(start, DType::kF32, memory_.host.shape);
  both(s_, [&](Ops& ops, bool d) {
    ops.token_shift(of(k, d), state(d), 0, of(shifted, d));
    ops.rg_lru({of(rate, d), width}, of(x, d), of(enter, d), of(keep, d), state(d));
    ops.wkv4({of(rate, d), of(first, d), 2 * width}, of(k, d), of(v, d), state(d), of(out, d));
  });
  expect_close(shifted, 1e-10);
  expect_close(x, loose_);
  expect_close(out, loose_);
  if (exact_) expect_close(memory_, 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Exact, CudaVariantOpsTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaVariantOpsTest, testing::Values(Compute::kAuto));
INSTANTIATE_TEST_SUITE_P(Exact, CudaStateOpsTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaStateOpsTest, testing::Values(Compute::kAuto));

}  // namespace
}  // namespace baize
