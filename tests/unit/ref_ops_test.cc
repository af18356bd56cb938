// The reference's row-wise ops and products against values worked out by hand and formulas in double.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "backend/ref/ref_backend.h"
#include "ops/dequant.h"
#include "unit/op_step.h"

namespace baize {
namespace {

using namespace op_test;

class RefOps : public testing::Test {
 protected:
  std::unique_ptr<Backend> ref_ = make_ref_backend();

  static HostTensor tensor(const Shape& shape, const std::vector<float>& values) {
    HostTensor t(DType::kF32, shape);
    std::copy(values.begin(), values.end(), t.f32());
    return t;
  }
};

TEST_F(RefOps, NormByHand) {
  const HostTensor x = tensor({2, 2}, {3, 4, -1, 1}), weight = tensor({2}, {1, 2}), out(DType::kF32, {2, 2});
  run_step(*ref_, rows_step(2), [&](Ops& ops) { ops.norm(x, {weight, 0}, out); });
  EXPECT_FLOAT_EQ(out.f32()[0], 3 / std::sqrt(12.5f));
  EXPECT_FLOAT_EQ(out.f32()[1], 8 / std::sqrt(12.5f));
  EXPECT_FLOAT_EQ(out.f32()[2], -1);
  EXPECT_FLOAT_EQ(out.f32()[3], 2);
  run_step(*ref_, rows_step(2), [&](Ops& ops) { ops.norm(x, {weight, 3}, out); });  // mean square 1, eps 3
  EXPECT_FLOAT_EQ(out.f32()[2], -0.5f);
}

TEST_F(RefOps, AddNormIsAddThenNorm) {
  const HostTensor sum = tensor({1, 2}, {1, 1}), x = tensor({1, 2}, {2, 3}), weight = tensor({2}, {1, 2});
  const HostTensor out(DType::kF32, {1, 2});
  run_step(*ref_, rows_step(1), [&](Ops& ops) {
    if (!ops.dry()) ops.add_norm(sum, x, {weight, 0}, out);
  });
  EXPECT_EQ(sum.f32()[0], 3);
  EXPECT_EQ(sum.f32()[1], 4);
  EXPECT_FLOAT_EQ(out.f32()[1], 8 / std::sqrt(12.5f));
}

TEST_F(RefOps, ActivationsByTable) {
  // Of -2, -0.5, 0, 1, 3; from the definitions with a table of erf and tanh.
  const std::vector<float> inputs = {-2, -0.5f, 0, 1, 3};
  const std::vector<std::pair<Activation, std::array<double, 5>>> table = {
      {Activation::kSilu, {-0.2384058440, -0.1887703344, 0, 0.7310585786, 2.8577223804}},
      {Activation::kGelu, {-0.0455002639, -0.1542687694, 0, 0.8413447461, 2.9959503059}},
      {Activation::kGeluTanh, {-0.0454023059, -0.1542859770, 0, 0.8411919906, 2.9963626079}},
      {Activation::kRelu, {0, 0, 0, 1, 3}},
  };
  for (const auto& [activation, expected] : table) {
    HostTensor x(DType::kF32, {1, 10});
    const HostTensor out(DType::kF32, {1, 5});
    for (size_t i = 0; i < 5; ++i) {
      x.f32()[i] = inputs[i];
      x.f32()[5 + i] = 2;  // up
    }
    run_step(*ref_, rows_step(1), [&](Ops& ops) { ops.gated_activation(x, activation, out); });
    for (size_t i = 0; i < 5; ++i)
      EXPECT_NEAR(out.f32()[i], 2 * expected[i], 1.5e-7 * (1 + std::abs(expected[i]))) << static_cast<int>(activation);
  }
}

TEST_F(RefOps, EmbedScalesTheRowsOfTheIds) {
  const HostTensor table = tensor({3, 2}, {1, 2, 3, 4, 5, 6}), ids = int_tensor({2, 0, 2});
  const HostTensor out(DType::kF32, {3, 2});
  StepInput input = rows_step(3);
  input.ids = ids;
  const Embed embed{{QuantFormat::plain(DType::kF32), 3, 2}, 10, Tensor(table.f32(), DType::kU8, {24})};
  run_step(*ref_, input, [&](Ops& ops) { ops.embed(embed, out); });
  EXPECT_EQ(std::vector<float>(out.values().begin(), out.values().end()), (std::vector<float>{50, 60, 10, 20, 50, 60}));
}

TEST_F(RefOps, GatherTakesTheWantedRows) {
  const HostTensor x = tensor({3, 2}, {1, 2, 3, 4, 5, 6}), wanted = int_tensor({2, 1}), out(DType::kF32, {2, 2});
  StepInput input = rows_step(3);
  input.out_rows = wanted;
  input.out_count = 2;
  run_step(*ref_, input, [&](Ops& ops) { ops.gather_out_rows(x, out); });
  EXPECT_EQ(std::vector<float>(out.values().begin(), out.values().end()), (std::vector<float>{5, 6, 3, 4}));
}

// Weights of one format with their dequantised values.
struct Weights {
  Weights(const QuantFormat& format, int64_t n, int64_t k, uint32_t seed) {
    linear.shape = {format, n, k};
    bytes.resize(static_cast<size_t>(n * format.row_bytes(k)));
    std::mt19937 random(seed);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0x3b);  // keeps every half and float finite
    linear.w = Tensor(bytes.data(), DType::kU8, {static_cast<int64_t>(bytes.size())});
    values.resize(static_cast<size_t>(n * k));
    for (int64_t j = 0; j < n; ++j) {
      dequantize_row(format, bytes.data() + j * format.row_bytes(k), k, values.data() + j * k);
    }
  }
  Linear linear;
  std::vector<std::byte> bytes;
  std::vector<float> values;
};

TEST_F(RefOps, LinearPartsOfDifferentFormatsFillAdjacentColumns) {
  constexpr int64_t kK = 256;
  std::vector<Weights> weights;
  weights.emplace_back(QuantFormat::gguf(GgufType::kQ4_K), 5, kK, 1);
  weights.emplace_back(QuantFormat::plain(DType::kBF16), 3, kK, 2);
  weights.emplace_back(QuantFormat::gguf(GgufType::kQ8_0), 7, kK, 3);
  const HostTensor bias = random_tensor({3}, 4, 1);
  weights[1].linear.bias = bias;
  weights[1].linear.alpha = 0.5f;
  std::vector<Linear> parts;
  for (Weights& w : weights) {
    choose_kernels(ref_->linear_kernels(), Compute::kExact, w.linear);
    parts.push_back(w.linear);
  }
  for (const int64_t m : {1, 4, 40}) {
    for (const float softcap : {0.0f, 2.0f}) {
      const HostTensor x = random_tensor({m, kK}, 5), out(DType::kF32, {m, 15});
      run_step(*ref_, rows_step(m), [&](Ops& ops) { ops.linear(parts, x, out, {softcap}); });
      for (int64_t r = 0; r < m; ++r) {
        int64_t column = 0;
        for (const Weights& w : weights) {
          for (int64_t j = 0; j < w.linear.shape.n; ++j, ++column) {
            double y = 0, magnitude = 0;
            for (int64_t i = 0; i < kK; ++i) {
              const double product =
                  static_cast<double>(x.f32()[r * kK + i]) * w.values[static_cast<size_t>(j * kK + i)];
              y += product;
              magnitude += std::abs(product);
            }
            y = w.linear.alpha * y + (w.linear.bias.present() ? bias.f32()[j] : 0.0f);
            if (softcap > 0) y = softcap * std::tanh(y / softcap);
            ASSERT_NEAR(out.f32()[r * 15 + column], y, 1e-6 * (magnitude + 1)) << "row " << r << " column " << column;
          }
        }
      }
    }
  }
}

TEST_F(RefOps, DryStepsCountWorkAndMemory) {
  Weights weights(QuantFormat::gguf(GgufType::kQ8_0), 10, 64, 1);
  choose_kernels(ref_->linear_kernels(), Compute::kExact, weights.linear);
  const HostTensor x = random_tensor({3, 64}, 5), out(DType::kF32, {3, 10});
  const StepCost cost = run_step(*ref_, rows_step(3), [&](Ops& ops) { ops.linear({&weights.linear, 1}, x, out); });
  EXPECT_EQ(cost.flops, 2 * 3 * 10 * 64);
  EXPECT_EQ(cost.weight_bytes, 10 * 2 * 34);
  EXPECT_EQ(cost.arena_bytes, 256);  // one dequantised row of 64 floats
}

}  // namespace
}  // namespace baize
