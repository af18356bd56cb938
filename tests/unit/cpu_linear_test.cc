// The matrix kernels of the CPU backend against double-precision sums over dequantize_row, for every format, every
// variant that this machine runs, both modes and a list of shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/linear/pack.h"
#include "backend/cpu/linear/registry.h"
#include "backend/cpu/thread_pool.h"
#include "ops/dequant.h"
#include "unit/linear_cases.h"

namespace baize::cpu {
namespace {

// A Linear that owns its weights, in the layout of the kernels chosen for it.
struct Weights {
  Linear linear;
  std::vector<std::byte> stored, packed;
  std::vector<float> bias;

  Weights(const QuantFormat& format, int64_t n, int64_t k, std::mt19937& rng)
      : stored(random_weights(format, n, k, rng)) {
    linear.shape = {format, n, k};
  }
  void choose(Isa isa, Compute compute) {
    const Pack* pack = choose_kernels(linear_kernels(isa), compute, linear);
    std::vector<std::byte>& w = pack != nullptr ? packed : stored;
    if (pack != nullptr) {
      // Random bytes first: packing must write every byte.
      packed.assign(static_cast<size_t>(pack->bytes(linear.shape)), std::byte{0x5a});
      const int64_t half = linear.shape.n / 2 / pack->row_step * pack->row_step;
      pack->repack(linear.shape, stored.data(), packed.data(), 0, half);
      pack->repack(linear.shape, stored.data(), packed.data(), half, linear.shape.n);
    }
    linear.w = Tensor(w.data(), DType::kU8, {static_cast<int64_t>(w.size())});
  }
  std::vector<float> dequantized() const {
    std::vector<float> w(static_cast<size_t>(linear.shape.n * linear.shape.k));
    const int64_t row_bytes = linear.shape.format.row_bytes(linear.shape.k);
    for (int64_t i = 0; i < linear.shape.n; ++i) {
      dequantize_row(linear.shape.format, stored.data() + i * row_bytes, linear.shape.k, w.data() + i * linear.shape.k);
    }
    return w;
  }
};

std::vector<float> random_x(int64_t count, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(count));
  for (float& v : x) v = normal(rng);
  return x;
}

// Runs calls of one kernel on x [m, k] with dense results.
std::vector<float> multiply(ThreadPool& pool, const Linear& linear, std::vector<float>& x, int64_t m,
                            const Epilogue& epilogue = {}) {
  const auto& kernel = linear.kernel(m);
  std::vector<float> out(static_cast<size_t>(m * linear.shape.n), std::numeric_limits<float>::quiet_NaN());
  std::vector<std::byte> workspace(static_cast<size_t>(kernel.workspace(linear.shape, m)));
  CpuExec exec(pool);
  const LinearCall call{&linear, Tensor(x.data(), DType::kF32, {m, linear.shape.k}),
                        Tensor(out.data(), DType::kF32, {m, linear.shape.n}), epilogue};
  kernel.run(exec, {&call, 1}, workspace.data());
  return out;
}

std::vector<double> reference(const std::vector<float>& w, const std::vector<float>& x, int64_t n, int64_t k) {
  const auto m = static_cast<int64_t>(x.size()) / k;
  std::vector<double> out(static_cast<size_t>(m * n));
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum += static_cast<double>(w[static_cast<size_t>(j * k + i)]) *
               static_cast<double>(x[static_cast<size_t>(r * k + i)]);
      }
      out[static_cast<size_t>(r * n + j)] = sum;
    }
  }
  return out;
}

// What the int8 kernels multiply with: every group of 32 rounded to 127 steps of its largest magnitude.
std::vector<float> int8_of(const std::vector<float>& x) {
  std::vector<float> result(x.size());
  for (size_t g = 0; g < x.size(); g += 32) {
    float largest = 0;
    for (size_t i = g; i < g + 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    for (size_t i = g; i < g + 32; ++i) result[i] = std::nearbyint(x[i] * inverse) * (largest / 127.0f);
  }
  return result;
}

std::vector<float> bf16_of(std::vector<float> x) {
  for (float& v : x) v = bf16_to_f32(f32_to_bf16(v));
  return x;
}

// The double-precision product of what the chosen kernel promises to multiply: see run.h.
std::vector<double> promised(const Weights& weights, Compute compute, const std::vector<float>& x) {
  const LinearShape& shape = weights.linear.shape;
  const auto m = static_cast<int64_t>(x.size()) / shape.k;
  const std::vector<float> w = weights.dequantized();
  if (std::string(weights.linear.kernel(m).name).ends_with(".tiles")) {
    return reference(bf16_of(w), bf16_of(x), shape.n, shape.k);
  }
  const bool int8 = compute == Compute::kAuto && shape.format.scheme == Scheme::kGguf;
  return reference(w, int8 ? int8_of(x) : x, shape.n, shape.k);
}

double nmse(const std::vector<float>& got, const std::vector<double>& want) {
  double error = 0, power = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    power += want[i] * want[i];
  }
  return error / power;
}

struct Shape2 {
  int64_t n, k;
};

std::vector<Shape2> shapes_of(const QuantFormat& format) {
  const int64_t block = format.block_elems();
  if (block == 1) return {{1, 1}, {7, 3}, {16, 8}, {33, 65}, {20, 259}, {48, 1030}};
  return {{1, block}, {7, block}, {16, 2 * block}, {33, 3 * block}, {20, 1280}, {48, 2304}};
}

constexpr int64_t kRows[] = {1, 2, 3, 5, 16, 17, 64, 150};

class LinearKernels : public testing::TestWithParam<Isa> {
 protected:
  ThreadPool pool_{2};
  std::mt19937 rng_{42};
};

TEST_P(LinearKernels, ExactMatchesDoublePrecision) {
  for (const QuantFormat& format : all_formats()) {
    for (const Shape2 shape : shapes_of(format)) {
      Weights weights(format, shape.n, shape.k, rng_);
      weights.choose(GetParam(), Compute::kExact);
      for (const int64_t m : kRows) {
        std::vector<float> x = random_x(m * shape.k, rng_);
        const double error =
            nmse(multiply(pool_, weights.linear, x, m), reference(weights.dequantized(), x, shape.n, shape.k));
        EXPECT_LT(error, 1e-11) << format.name() << " n " << shape.n << " k " << shape.k << " m " << m;
      }
    }
  }
}

TEST_P(LinearKernels, AutoMatchesRoundedActivationsTightly) {
  for (const QuantFormat& format : all_formats()) {
    for (const Shape2 shape : shapes_of(format)) {
      Weights weights(format, shape.n, shape.k, rng_);
      weights.choose(GetParam(), Compute::kAuto);
      for (const int64_t m : kRows) {
        std::vector<float> x = random_x(m * shape.k, rng_);
        const double error = nmse(multiply(pool_, weights.linear, x, m), promised(weights, Compute::kAuto, x));
        EXPECT_LT(error, 1e-10) << format.name() << " n " << shape.n << " k " << shape.k << " m " << m;
      }
    }
  }
}

// The price of int8 activations: about 2e-5 (a step is 1/127 of the largest of 32 normal values); of bf16, less.
TEST_P(LinearKernels, AutoIsCloseToF32) {
  for (const QuantFormat& format : all_formats()) {
    Weights weights(format, 48, 2304, rng_);
    weights.choose(GetParam(), Compute::kAuto);
    std::vector<float> x = random_x(17 * 2304, rng_);
    const double error = nmse(multiply(pool_, weights.linear, x, 17), reference(weights.dequantized(), x, 48, 2304));
    EXPECT_LT(error, 1e-4) << format.name();
  }
}

// Multiplying by the unit matrix in exact mode gives the dequantised weights, to the bit.
TEST_P(LinearKernels, ExactWeightsAreThoseOfTheDefinition) {
  for (const QuantFormat& format : all_formats()) {
    constexpr int64_t kN = 19, kK = 512;
    Weights weights(format, kN, kK, rng_);
    weights.choose(GetParam(), Compute::kExact);
    std::vector<float> unit(kK * kK);
    for (size_t i = 0; i < kK; ++i) unit[i * kK + i] = 1;
    const std::vector<float> w = weights.dequantized();
    const std::vector<float> got = multiply(pool_, weights.linear, unit, kK);
    int different = 0;
    for (size_t i = 0; i < kK; ++i) {
      for (size_t j = 0; j < kN; ++j) different += got[i * kN + j] != w[j * kK + i];
    }
    EXPECT_EQ(different, 0) << format.name();
  }
}

TEST_P(LinearKernels, ThreadsDoNotChangeABit) {
  ThreadPool one(1), three(3);
  for (const Compute compute : {Compute::kExact, Compute::kAuto}) {
    for (const QuantFormat& format : all_formats()) {
      Weights weights(format, 70, 768, rng_);
      weights.choose(GetParam(), compute);
      for (const int64_t m : {1, 5, 150}) {
        std::vector<float> x = random_x(m * 768, rng_);
        const std::vector<float> a = multiply(one, weights.linear, x, m), b = multiply(three, weights.linear, x, m);
        EXPECT_EQ(a, b) << format.name() << " m " << m;
      }
    }
  }
}

// Several calls share x; results go to columns of a wider matrix, and nothing beside them is touched.
TEST_P(LinearKernels, PartsFillColumnsAndEpilogueApplies) {
  constexpr int64_t kK = 256, kWidth = 70, kGuard = 5;
  for (const Compute compute : {Compute::kExact, Compute::kAuto}) {
    for (const QuantFormat& format : {QuantFormat::plain(DType::kBF16), QuantFormat::gguf(GgufType::kQ4_1)}) {
      for (const int64_t m : {1, 3, 40, 290}) {
        Weights first(format, 33, kK, rng_), second(format, 18, kK, rng_);
        for (Weights* w : {&first, &second}) {
          w->choose(GetParam(), compute);
          w->linear.alpha = 0.01f;
          w->bias = random_x(w->linear.shape.n, rng_);
          w->linear.bias = Tensor(w->bias.data(), DType::kF32, {w->linear.shape.n});
        }
        second.linear.bias = {};
        std::vector<float> wide_x = random_x(m * (kK + 8), rng_), x;  // rows of x are strided too
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t i = 0; i < kK; ++i) x.push_back(wide_x[static_cast<size_t>(r * (kK + 8) + i)]);
        }
        std::vector<float> out(static_cast<size_t>(m * kWidth), -7);
        const Tensor x_view = Tensor(wide_x.data(), DType::kF32, {m, kK + 8}).columns(0, kK);
        const Tensor wide(out.data(), DType::kF32, {m, kWidth});
        const Epilogue cap{0.9f};
        const std::vector<LinearCall> calls = {{&first.linear, x_view, wide.columns(kGuard, 33), cap},
                                               {&second.linear, x_view, wide.columns(kGuard + 33, 18), cap}};
        const LinearKernel& kernel = first.linear.kernel(m);
        std::vector<std::byte> workspace(static_cast<size_t>(kernel.workspace(first.linear.shape, m)));
        CpuExec exec(pool_);
        kernel.run(exec, calls, workspace.data());

        const std::vector<double> a = promised(first, compute, x), b = promised(second, compute, x);
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t j = 0; j < kWidth; ++j) {
            const int64_t col = j - kGuard;
            double want = -7;
            if (col >= 0 && col < 33) {
              want = 0.01 * a[static_cast<size_t>(r * 33 + col)] +
                     static_cast<double>(first.bias[static_cast<size_t>(col)]);
            } else if (col >= 33 && col < 51) {
              want = 0.01 * b[static_cast<size_t>(r * 18 + col - 33)];
            }
            if (col >= 0 && col < 51) want = 0.9 * std::tanh(want / 0.9);
            EXPECT_NEAR(out[static_cast<size_t>(r * kWidth + j)], want, 1e-5) << r << " " << j;
          }
        }
      }
    }
  }
}

// Rows of x are independent: a NaN, an infinity, zeros and outliers change their own row only.
TEST_P(LinearKernels, UnusualActivations) {
  constexpr int64_t kN = 18, kK = 512, kM = 6;
  const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const Compute compute : {Compute::kExact, Compute::kAuto}) {
    for (const QuantFormat& format : all_formats()) {
      Weights weights(format, kN, kK, rng_);
      weights.choose(GetParam(), compute);
      std::vector<float> x = random_x(kM * kK, rng_);
      x[0 * kK + 77] = kNan;
      x[1 * kK + 5] = -kInf;
      std::fill_n(x.begin() + 2 * kK, kK, 0.0f);
      for (size_t i = 3 * kK; i < 4 * kK; ++i) x[i] *= 1e-37f;
      x[4 * kK + 300] = 1e6f;
      const std::vector<float> got = multiply(pool_, weights.linear, x, kM);
      std::vector<float> alone(x.begin(), x.begin() + kK);
      const std::vector<float> one = multiply(pool_, weights.linear, alone, 1);
      const std::vector<double> want = promised(weights, compute, x);
      for (size_t j = 0; j < kN; ++j) {
        EXPECT_TRUE(std::isnan(got[j]) && std::isnan(one[j])) << format.name();
        EXPECT_FALSE(std::isfinite(got[kN + j])) << format.name();
        EXPECT_EQ(got[2 * kN + j], 0) << format.name();
        EXPECT_LT(std::fabs(got[3 * kN + j]), 1e-30f) << format.name();
        EXPECT_NEAR(got[4 * kN + j], want[4 * kN + j], 1e-5 * std::fabs(want[4 * kN + j]) + 50) << format.name();
        EXPECT_NEAR(got[5 * kN + j], want[5 * kN + j], 1e-2) << format.name();
      }
    }
  }
}

// Scales that are subnormal halves are exact.
TEST_P(LinearKernels, SubnormalScales) {
  Weights weights(QuantFormat::gguf(GgufType::kQ8_0), 16, 256, rng_);
  for (size_t p = 0; p < weights.stored.size(); p += sizeof(BlockQ8_0)) {
    store_at(weights.stored.data() + p, static_cast<uint16_t>(1 + rng_() % 0x3ff));
  }
  for (const Compute compute : {Compute::kExact, Compute::kAuto}) {
    weights.choose(GetParam(), compute);
    std::vector<float> x = random_x(256, rng_);
    EXPECT_LT(nmse(multiply(pool_, weights.linear, x, 1), promised(weights, compute, x)), 1e-10);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryVariant, LinearKernels, testing::ValuesIn(usable_isas().begin(), usable_isas().end()),
                         [](const testing::TestParamInfo<Isa>& isa) { return std::string(to_string(isa.param)); });

// Compute::kInvariant: a row comes to the same bits alone, among few and among many.
TEST(LinearInvariant, RowsDoNotDependOnTheirNumber) {
  ThreadPool pool(2);
  for (const Isa isa : usable_isas()) {
    for (const QuantFormat& format : all_formats()) {
      std::mt19937 rng(4);
      constexpr int64_t kN = 37, kK = 768, kMost = 41;
      Weights weights(format, kN, kK, rng);
      weights.choose(isa, Compute::kInvariant);
      for (const LinearKernel* kernel : weights.linear.by_m) EXPECT_EQ(kernel, weights.linear.by_m[0]);
      std::vector<float> x = random_x(kMost * kK, rng);
      const std::vector<float> all = multiply(pool, weights.linear, x, kMost);
      for (const int64_t m : {1, 2, 3, 7, 16, 17}) {
        std::vector<float> last(x.end() - m * kK, x.end());
        const std::vector<float> out = multiply(pool, weights.linear, last, m);
        EXPECT_TRUE(std::equal(out.begin(), out.end(), all.end() - m * kN)) << format.name() << " m " << m;
      }
    }
  }
}

}  // namespace
}  // namespace baize::cpu
