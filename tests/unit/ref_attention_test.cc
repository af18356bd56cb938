// The reference's rotation, cache and attention against values by hand and dense formulas in double.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>

#include "backend/ref/ref_backend.h"
#include "unit/op_step.h"

namespace baize {
namespace {

using namespace op_test;

class RefAttention : public testing::Test {
 protected:
  std::unique_ptr<Backend> ref_ = make_ref_backend();
};

struct Rotated {
  std::vector<float> q, k, v;
};

// One head of one token (q, k and v hold the same values) at `position`, read back from q and the cache.
Rotated rotate_one(Backend& backend, const std::vector<float>& head, int64_t position, Rope rope,
                   const std::vector<float>& inv_freq, const Norm& q_norm = {}, const Norm& k_norm = {}) {
  const auto dim = static_cast<int64_t>(head.size());
  PagedStep step({{position, 1}}, {1, 1, dim}, 16, 0, DType::kF32);
  HostTensor qkv(DType::kF32, {1, 3 * dim}), frequencies(DType::kF32, {static_cast<int64_t>(inv_freq.size())});
  std::copy(inv_freq.begin(), inv_freq.end(), frequencies.f32());
  for (int64_t part = 0; part < 3; ++part) std::copy(head.begin(), head.end(), qkv.f32() + part * dim);
  if (!inv_freq.empty()) rope.inv_freq = frequencies;
  const HostTensor q(DType::kF32, {1, 1, dim});
  const QkvArgs args{{1, 1, dim}, q_norm, k_norm, rope};
  run_step(backend, step.input, [&](Ops& ops) { ops.qk_norm_rope_store(args, qkv, step.kv, q); });
  const int64_t at = step.offset(0, position, 0);
  const float* k = step.kv.k.as<float>() + at;
  const float* v = step.kv.v.as<float>() + at;
  return {{q.f32(), q.f32() + dim}, {k, k + dim}, {v, v + dim}};
}

void expect_near(const std::vector<float>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6) << "value " << i;
}

TEST_F(RefAttention, RotatesPairsByHand) {
  const double c = std::cos(2.0), s = std::sin(2.0), c2 = std::cos(1.0), s2 = std::sin(1.0);
  // Position 2, frequencies 1 and 1/2: angles 2 and 1.
  const std::vector<double> halves = {1 * c - 3 * s, 2 * c2 - 4 * s2, 3 * c + 1 * s, 4 * c2 + 2 * s2};
  const Rotated a = rotate_one(*ref_, {1, 2, 3, 4}, 2, {}, {1, 0.5f});
  expect_near(a.q, halves);
  expect_near(a.k, halves);
  expect_near(a.v, {1, 2, 3, 4});
  Rope interleaved;
  interleaved.interleaved = true;
  const std::vector<double> pairs = {1 * c - 2 * s, 2 * c + 1 * s, 3 * c2 - 4 * s2, 4 * c2 + 3 * s2};
  expect_near(rotate_one(*ref_, {1, 2, 3, 4}, 2, interleaved, {1, 0.5f}).k, pairs);
}

TEST_F(RefAttention, PartialRotationLeavesTheRestAlone) {
  const double c = std::cos(3.0), s = std::sin(3.0);
  expect_near(rotate_one(*ref_, {1, 2, 3, 4, 5}, 3, {}, {1}).q, {1 * c - 2 * s, 2 * c + 1 * s, 3, 4, 5});
  expect_near(rotate_one(*ref_, {1, 2, 3}, 3, {}, {}).q, {1, 2, 3});
}

TEST_F(RefAttention, ScaleMultipliesTheRotation) {
  Rope rope;
  rope.scale = 1.5f;
  const double c = 1.5 * std::cos(1.0), s = 1.5 * std::sin(1.0);
  expect_near(rotate_one(*ref_, {1, 2, 9}, 1, rope, {1}).q, {1 * c - 2 * s, 2 * c + 1 * s, 9});
}

TEST_F(RefAttention, DynamicScalingStretchesTheBaseOfLongSequences) {
  Rope rope;
  rope.dynamic_factor = 2;
  rope.dynamic_length = 100;
  rope.theta = 10000;
  // 200 tokens: base 10000 * (2 * 200 / 100 - 1)^(4 / 2) = 90000, frequencies 1 and 1/300.
  const auto expected = [](double position, double second) {
    const double c = std::cos(position), s = std::sin(position), c2 = std::cos(second), s2 = std::sin(second);
    return std::vector<double>{1 * c - 3 * s, 2 * c2 - 4 * s2, 3 * c + 1 * s, 4 * c2 + 2 * s2};
  };
  expect_near(rotate_one(*ref_, {1, 2, 3, 4}, 199, rope, {1, 0.01f}).q, expected(199, 199.0 / 300));
  expect_near(rotate_one(*ref_, {1, 2, 3, 4}, 99, rope, {1, 0.01f}).q, expected(99, 0.99));  // 100 tokens: not yet
}

TEST_F(RefAttention, NormsComeBeforeTheRotation) {
  HostTensor q_weight(DType::kF32, {2}), k_weight(DType::kF32, {2});
  q_weight.f32()[0] = q_weight.f32()[1] = 1;
  k_weight.f32()[0] = 2;
  k_weight.f32()[1] = 0;
  const double rms = std::sqrt(12.5), c = std::cos(1.0), s = std::sin(1.0);
  const Rotated r = rotate_one(*ref_, {3, 4}, 1, {}, {1}, {q_weight, 0}, {k_weight, 0});
  expect_near(r.q, {(3 * c - 4 * s) / rms, (4 * c + 3 * s) / rms});
  expect_near(r.k, {6 * c / rms, 6 * s / rms});
  expect_near(r.v, {3, 4});
}

// Softmax attention over dense arrays, straight from its definition.
std::vector<float> dense_attention(const AttnCase& c, const PagedStep& step, const HostTensor& q, float scale) {
  const auto& [heads, kv_heads, dim] = c.shape;
  std::vector<float> out(static_cast<size_t>(q.size()));
  for (int64_t r = 0; r < step.input.rows; ++r) {
    const int64_t seq = step.input.row_seq.as<int32_t>()[r];
    const int64_t position = step.input.positions.as<int32_t>()[r];
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<double> sum(static_cast<size_t>(dim));
      double total = 0;
      for (int64_t t = 0; t <= position; ++t) {
        if (c.window > 0 && position - t >= c.window) continue;
        const int64_t at = step.offset(seq, t, h * kv_heads / heads);
        double score = 0;
        for (int64_t i = 0; i < dim; ++i) {
          score += static_cast<double>(q.f32()[(r * heads + h) * dim + i]) * PagedStep::get(step.kv.k, at + i);
        }
        score *= scale;
        if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
        const double weight = std::exp(score);
        total += weight;
        for (int64_t i = 0; i < dim; ++i) sum[static_cast<size_t>(i)] += weight * PagedStep::get(step.kv.v, at + i);
      }
      for (int64_t i = 0; i < dim; ++i) {
        out[static_cast<size_t>((r * heads + h) * dim + i)] = static_cast<float>(sum[static_cast<size_t>(i)] / total);
      }
    }
  }
  return out;
}

TEST_F(RefAttention, MatchesTheDenseFormula) {
  for (const AttnCase& c : attention_cases()) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      PagedStep step(c.seqs, c.shape, c.block, c.window, dtype);
      step.fill_cache(3);
      const Shape shape = {step.input.rows, c.shape.heads, c.shape.head_dim};
      const HostTensor q = random_tensor(shape, 4, 2), out(DType::kF32, shape);
      const float scale = 1 / std::sqrt(static_cast<float>(c.shape.head_dim));
      run_step(*ref_, step.input,
               [&](Ops& ops) { ops.attention({c.shape, scale, c.softcap, c.window}, q, step.kv, out); });
      EXPECT_LT(nmse(out.values(), dense_attention(c, step, q, scale)), 1e-12) << c.name << " " << to_string(dtype);
    }
  }
}

TEST_F(RefAttention, OneKeyIsCopiedAndEqualKeysAreAveraged) {
  PagedStep step({{1, 1}}, {1, 1, 2}, 16, 0, DType::kF32);
  for (int64_t t = 0; t < 2; ++t) {
    for (int64_t i = 0; i < 2; ++i) {
      PagedStep::put(step.kv.k, step.offset(0, t, 0) + i, 1);
      PagedStep::put(step.kv.v, step.offset(0, t, 0) + i, static_cast<float>(10 * t + i));
    }
  }
  const HostTensor q = random_tensor({1, 1, 2}, 1), out(DType::kF32, {1, 1, 2});
  run_step(*ref_, step.input, [&](Ops& ops) { ops.attention({{1, 1, 2}, 1, 0, 0}, q, step.kv, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], 5);
  EXPECT_FLOAT_EQ(out.f32()[1], 6);
  run_step(*ref_, step.input, [&](Ops& ops) { ops.attention({{1, 1, 2}, 1, 0, 1}, q, step.kv, out); });
  EXPECT_EQ(out.f32()[0], 10);  // a window of one token sees itself
}

}  // namespace
}  // namespace baize
