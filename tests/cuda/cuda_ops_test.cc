// Every op of the CUDA backend against the reference, over odd sizes, ragged batches, windows, caps and all weight
// formats; in f32 and in bf16. Needs a GPU: built by `make cuda`, run by tools/gpu_check.sh.
#include <gtest/gtest.h>

#include "cuda/cuda_pairs.h"

namespace baize {
namespace {

using namespace test;

class CudaOpsTest : public PairTest {};

const std::vector<SeqCase> kOne = {{0, 1}};

TEST_P(CudaOpsTest, Norm) {
  for (const int64_t dim : {8, 33, 576, 2048, 4096, 5120, 16384}) {
    for (const int64_t rows : {1, 3, 70}) {
      const Pair x = f32({rows, dim}), w = f32({dim}), out = poison(precision_.act, {rows, dim});
      const Step s = step(kOne);
      both(s, [&](Ops& ops, bool on_device) {
        ops.norm(on_device ? x.device : x.host, {on_device ? w.device : w.host, 1e-5f},
                 on_device ? out.device : out.host);
      });
      expect_close(out, bound_);
    }
  }
}

TEST_P(CudaOpsTest, AddNorm) {
  for (const int64_t dim : {24, 31, 960, 4096, 12288}) {
    for (const int64_t rows : {1, 5, 129}) {
      const Pair w = f32({dim}), x = act({rows, dim}), out = poison(precision_.act, {rows, dim});
      const std::vector<float> start = normals(rows * dim);
      Pair residual = pair(start, precision_.residual, {rows, dim});
      const Step s = step(kOne);
      both(s, [&](Ops& ops, bool on_device) {
        const Tensor& r = on_device ? residual.device : residual.host;
        const Tensor scratch = ops.temp(r.dtype, r.shape);
        ops.add(r, on_device ? x.device : x.host);
        ops.add_norm(r, on_device ? x.device : x.host, {on_device ? w.device : w.host, 1e-6f},
                     on_device ? out.device : out.host);
        (void)scratch;
      });
      expect_close(out, bound_);
      expect_close(residual, bound_);
    }
  }
}

TEST_P(CudaOpsTest, GatedActivation) {
  for (const Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
    for (const int64_t ff : {7, 64, 1536, 14336}) {
      const int64_t rows = ff == 64 ? 200 : 3;
      const Pair x = act({rows, 2 * ff}, 2), out = poison(precision_.act, {rows, ff});
      const Step s = step(kOne);
      both(s, [&](Ops& ops, bool on_device) {
        ops.gated_activation(on_device ? x.device : x.host, activation, on_device ? out.device : out.host);
      });
      expect_close(out, bound_);
    }
  }
}

TEST_P(CudaOpsTest, EmbedAndGather) {
  const std::vector<SeqCase> seqs = {{0, 5}, {3, 1}, {0, 40}};
  for (const QuantFormat& format : weight_formats()) {
    for (const int64_t k : {int64_t{256}, int64_t{768}, format.block_elems() == 1 ? int64_t{37} : int64_t{512}}) {
      const std::vector<std::byte> bytes = random_weights(format, 97, k);
      const Step s = step(seqs);
      const Pair out = poison(precision_.residual, {46, k}), rows = poison(precision_.residual, {3, k});
      const Tensor on_gpu = device_.put(bytes), on_host = host_.put(bytes);
      both(s, [&](Ops& ops, bool on_device) {
        ops.embed({{format, 97, k}, 1.5f, on_device ? on_gpu : on_host}, on_device ? out.device : out.host);
        ops.gather_out_rows(on_device ? out.device : out.host, on_device ? rows.device : rows.host);
      });
      expect_close(out, 1e-12);
      expect_close(rows, 1e-12);
    }
  }
}

// One linear, or several that share x, in every format.
struct LinearCase {
  int64_t m, k;
  std::vector<int64_t> n;
};

TEST_P(CudaOpsTest, Linear) {
  const std::vector<LinearCase> cases = {
      {1, 256, {64}},        {1, 2048, {200, 64, 64}}, {1, 4096, {1000}},  {2, 512, {33}},    {5, 1024, {130, 70}},
      {8, 768, {96}},        {16, 512, {48}},          {9, 1280, {17}},    {17, 512, {72}},   {70, 768, {264, 40}},
      {129, 256, {520}},     {1, 14336, {24}},         {40, 512, {17000}}, {1, 4096, {1008}}, {3, 1024, {64}},
      {64, 2048, {128, 64}}, {16, 14336, {128}}};
  for (const QuantFormat& format : weight_formats()) {
    const bool plain = format.scheme == Scheme::kPlain, fp8 = format.scheme == Scheme::kFp8;
    for (LinearCase c : cases) {
      if (c.n[0] > 10000 && format.block != GgufType::kQ4_K) continue;
      if (format.block_elems() == 1 && c.m % 2 == 1 && c.k <= 512) c.k = 72 + c.m;  // rows of odd lengths
      const Pair x = act({c.m, c.k});
      std::vector<Linear> on_gpu(c.n.size()), on_host(c.n.size());
      int64_t total = 0;
      for (size_t i = 0; i < c.n.size(); ++i) {
        const std::vector<std::byte> bytes = random_weights(format, c.n[i], c.k);
        on_gpu[i].shape = on_host[i].shape = {format, c.n[i], c.k};
        on_gpu[i].alpha = on_host[i].alpha = i == 0 ? 0.5f : 1.0f;
        if (i == 1 || c.n.size() == 1) {
          const Pair bias = f32({c.n[i]});
          on_gpu[i].bias = bias.device;
          on_host[i].bias = bias.host;
        }
        const Pack* pack = choose_kernels(cuda().linear_kernels(), compute_, on_gpu[i]);
        choose_kernels(ref().linear_kernels(), compute_, on_host[i]);
        put_weights(device_, bytes, pack, on_gpu[i]);
        on_host[i].w = host_.put(bytes);
        total += c.n[i];
      }
      const DType out_type = c.m % 2 == 0 ? DType::kF32 : precision_.act;
      const Pair out = poison(out_type, {c.m, total});
      const Step s = step(kOne);
      const Epilogue epilogue{.softcap = c.m == 5 ? 30.0f : 0.0f};
      both(s, [&](Ops& ops, bool on_device) {
        ops.linear(on_device ? on_gpu : on_host, on_device ? x.device : x.host, on_device ? out.device : out.host,
                   epilogue);
      });
      SCOPED_TRACE(format.name() + " m " + std::to_string(c.m) + " k " + std::to_string(c.k));
      // Rows quantised to e4m3 (4 bits of precision) or to 8 bits, or weights rounded to bf16.
      const bool one = c.m == 1;
      expect_close(out, exact_ ? 1e-9 : plain || (fp8 && one) ? 1e-5 : fp8 ? 1.5e-3 : 3e-4);
    }
  }
}

// What a norm or gate and the product after it come to, where one kernel may do the norm and quantise its result; that
// the plain result is there for a third op that reads it.
TEST_P(CudaOpsTest, NormsAndGatesBeforeProducts) {
  constexpr int64_t kWidth = 1024, kOut = 96;
  const auto matrix = [&](Linear& on_gpu, Linear& on_host) {
    const QuantFormat format = QuantFormat::fp8(0);
    on_gpu.shape = on_host.shape = {format, kOut, kWidth};
    on_gpu.alpha = on_host.alpha = 1 / std::sqrt(static_cast<float>(kWidth));
    const std::vector<std::byte> bytes = random_weights(format, kOut, kWidth);
    put_weights(device_, bytes, choose_kernels(cuda().linear_kernels(), compute_, on_gpu), on_gpu);
    choose_kernels(ref().linear_kernels(), compute_, on_host);
    on_host.w = host_.put(bytes);
  };
  Linear weights[2];
  matrix(weights[1], weights[0]);
  for (const int64_t rows : {1, 5, 16, 70, 300}) {
    for (const bool read_again : {false, true}) {
      const Pair w = f32({kWidth}), x = act({rows, kWidth}), wide = act({rows, 2 * kWidth}, 2);
      const Pair residual = pair(normals(rows * kWidth), precision_.residual, {rows, kWidth});
      const Pair normed = poison(precision_.act, {rows, kWidth}), gated = poison(precision_.act, {rows, kWidth});
      const Pair out[3] = {poison(precision_.act, {rows, kOut}), poison(precision_.act, {rows, kOut}),
                           poison(precision_.act, {rows, kOut})};
      const Step s = step(kOne);
      both(s, [&](Ops& ops, bool d) {
        const auto at = [&](const Pair& p) { return d ? p.device : p.host; };
        const std::span<const Linear> matrix_of(&weights[d ? 1 : 0], 1);
        const Norm norm = {at(w), 1e-6f};
        ops.norm(at(x), norm, at(normed));
        ops.linear(matrix_of, at(normed), at(out[0]));
        ops.add_norm(at(residual), at(x), norm, at(normed));
        ops.linear(matrix_of, at(normed), at(out[1]));
        ops.gated_activation(at(wide), Activation::kSilu, at(gated));
        ops.linear(matrix_of, at(gated), at(out[2]));
        if (read_again) ops.add(at(gated), at(normed));
        ops.norm(at(x), norm, at(normed));
      });
      SCOPED_TRACE("rows " + std::to_string(rows));
      for (const Pair& each : out) expect_close(each, exact_ ? 1e-9 : rows == 1 ? 1e-5 : 1.5e-3);
      expect_close(residual, bound_);
      if (read_again) expect_close(gated, 2 * bound_);  // rounded twice
    }
  }
}

struct AttentionCase {
  AttnShape shape;
  std::vector<SeqCase> seqs;
  int64_t window = 0;
  float softcap = 0;
  int32_t block = 16;
  bool norms = false, interleaved = false;
  int64_t rot = 0;  // 0: head_dim
  float dynamic = 0;
};

TEST_P(CudaOpsTest, Attention) {
  const std::vector<AttentionCase> cases = {
      {{8, 2, 64}, {{0, 1}}},
      {{8, 2, 64}, {{700, 1}, {3, 1}, {64, 1}, {1300, 1}}},
      {{8, 8, 128}, {{100, 1}, {0, 3}, {515, 2}}},
      {{32, 8, 128}, {{2500, 1}}, 0, 0, 32},
      {{8, 4, 128}, {{0, 300}, {77, 1}, {40, 65}, {0, 1}}},
      {{8, 1, 128}, {{0, 129}}, 40, 0, 4},
      {{4, 2, 256}, {{0, 100}, {31, 1}, {200, 33}}, 0, 50, 16, true},
      {{4, 1, 256}, {{900, 1}, {20, 1}}, 64, 0, 16, true},
      {{6, 3, 96}, {{0, 70}, {5, 1}}, 0, 0, 8, false, false, 32},
      {{4, 4, 80}, {{33, 1}, {0, 90}}, 0, 0, 16, false, true},
      {{3, 1, 20}, {{9, 1}, {0, 12}}, 0, 0, 4, false, false, 12},
      {{12, 2, 64}, {{0, 260}}, 100, 20, 16, true},
      {{2, 1, 512}, {{70, 1}}},
      {{8, 2, 64}, {{0, 33}, {90, 1}}, 0, 0, 16, false, false, 0, 4},
      {{20, 4, 64}, {{0, 512}, {1, 127}, {128, 128}}},
  };
  for (const AttentionCase& c : cases) {
    const auto [heads, kv_heads, dim] = c.shape;
    const Step s = step(c.seqs, c.block);
    const int64_t rows = s.device.rows, rot = c.rot > 0 ? c.rot : dim;
    const Pair qkv = act({rows, (heads + 2 * kv_heads) * dim});
    const Pair q = poison(precision_.act, {rows, heads, dim}), out = poison(precision_.act, {rows, heads, dim});
    const Pair q_norm = f32({dim}), k_norm = f32({dim});
    std::vector<float> frequencies(static_cast<size_t>(rot / 2));
    for (size_t i = 0; i < frequencies.size(); ++i) {
      frequencies[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(rot));
    }
    const Pair inv_freq = pair(frequencies, DType::kF32, {rot / 2});
    // Head-major pages, keys then values; what earlier steps stored is random.
    const int64_t page = 2 * kv_heads * c.block * dim;
    const Pair cache = pair(normals(s.pages * page), precision_.kv, {s.pages * page});
    const auto view = [&](const Tensor& memory) {
      KvView kv;
      kv.k = Tensor(memory.data, memory.dtype, {s.pages, c.block, kv_heads, dim}, memory.place);
      kv.k.strides = {page, dim, c.block * dim, 1};
      kv.v = kv.k;
      kv.v.data = static_cast<char*>(memory.data) + page / 2 * dtype_bytes(memory.dtype);
      return kv;
    };
    AttnArgs args{c.shape, 1.0f / std::sqrt(static_cast<float>(dim)), c.softcap, c.window};
    both(s, [&](Ops& ops, bool on_device) {
      QkvArgs qkv_args;
      qkv_args.shape = c.shape;
      if (c.norms) {
        qkv_args.q_norm = {on_device ? q_norm.device : q_norm.host, 1e-6f};
        qkv_args.k_norm = {on_device ? k_norm.device : k_norm.host, 1e-6f};
      }
      qkv_args.rope.inv_freq = on_device ? inv_freq.device : inv_freq.host;
      qkv_args.rope.interleaved = c.interleaved;
      qkv_args.rope.scale = c.rot > 0 ? 1.2f : 1.0f;
      qkv_args.rope.dynamic_factor = c.dynamic;
      qkv_args.rope.theta = 10000;
      qkv_args.rope.dynamic_length = 50;
      const KvView kv = view(on_device ? cache.device : cache.host);
      ops.qk_norm_rope_store(qkv_args, on_device ? qkv.device : qkv.host, kv, on_device ? q.device : q.host);
      ops.attention(args, on_device ? q.device : q.host, kv, on_device ? out.device : out.host);
    });
    SCOPED_TRACE("heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " x " + std::to_string(dim) +
                 ", rows " + std::to_string(rows));
    expect_close(q, exact_ ? 1e-9 : 1e-5);
    expect_close(cache, exact_ ? 1e-9 : 1e-5);
    expect_close(out, exact_ ? 1e-9 : 3e-5);
  }
}

// Each way of the kernel: no filter, filters on gathered and on all tokens, ties at a bound, and rows left to the host.
const SampleParams kDraws[] = {
    {.temperature = 0},
    {.temperature = 0.7f, .seed = 3},
    {.temperature = 1, .seed = 4},
    {.temperature = 1, .top_k = 1, .seed = 4},
    {.temperature = 0.8f, .top_k = 40, .seed = 5},
    {.temperature = 1, .top_p = 0.9f, .seed = 6},
    {.temperature = 0.2f, .top_p = 0.5f, .seed = 6},
    {.temperature = 0.6f, .top_k = 20, .top_p = 0.95f, .min_p = 0.02f, .seed = 7},
    {.temperature = 1.5f, .top_k = 20000, .top_p = 0.99f, .seed = 11},
    {.temperature = 1, .min_p = 0.1f, .seed = 12},
    {.repetition_penalty = 1.3f, .frequency_penalty = 0.5f, .temperature = 0.7f, .seed = 8},
    {.temperature = 0.9f, .typical_p = 0.9f, .seed = 9},
};

TEST_P(CudaOpsTest, Sample) {
  for (const int64_t vocab : {int64_t{5}, int64_t{1000}, int64_t{128256}}) {
    std::vector<float> logits = normals(6 * vocab);
    const auto at = [&](int64_t row, int64_t i) -> float& { return logits[static_cast<size_t>(row * vocab + i)]; };
    at(0, 3) = at(0, 1) = 50;  // a tie
    at(1, vocab - 1) = NAN;
    for (int64_t i = 0; i < vocab; ++i) at(2, i) = -INFINITY;
    at(3, 4) = INFINITY;
    for (int64_t i = 0; i < vocab; ++i) at(4, i) = -100.0f - static_cast<float>(i % 50);
    for (const SampleParams& params : kDraws) {
      std::vector<SampleRow> rows(6);
      for (size_t i = 0; i < rows.size(); ++i) {
        rows[i].params = params;
        rows[i].params.position = static_cast<int64_t>(9 + i);
      }
      const Token seen[] = {1, 2, 3};
      const LogitBias bias[] = {{2, 1000.0f}};
      if (params.seed == 8) rows[0].history = rows[0].drawn = seen;  // drawn on the host, beside others on the device
      if (params.seed == 8) rows[5].bias = bias;
      std::vector<Token> got(6, -7), want(6, -8);
      const Tensor on_gpu = device_.floats(logits, DType::kF32, {6, vocab});
      const Tensor on_host = host_.floats(logits, DType::kF32, {6, vocab});
      const auto gpu_ops = cuda().make_ops(compute_, Arena(cuda().allocate(1024)));
      const auto host_ops = ref().make_ops(compute_, Arena(ref().allocate(1024)));
      gpu_ops->sample({rows, got}, on_gpu);
      host_ops->sample({rows, want}, on_host);
      SCOPED_TRACE("vocabulary " + std::to_string(vocab) + ", draw " + std::to_string(&params - kDraws));
      EXPECT_EQ(got, want);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Exact, CudaOpsTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaOpsTest, testing::Values(Compute::kAuto));

}  // namespace
}  // namespace baize
