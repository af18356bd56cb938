// Quantisers against dequantize_row: errors on random weights, exactness where a block can hold the weights, extremes.
#include "formats/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "ops/dequant.h"
#include "tensor/gguf_blocks.h"

namespace baize {
namespace {

constexpr int64_t kWidth = 512;

std::vector<float> there_and_back(GgufType type, const std::vector<float>& weights) {
  const auto k = std::ssize(weights);
  std::vector<std::byte> row(static_cast<size_t>(gguf_row_bytes(type, k)));
  quantize_row(type, weights.data(), k, row.data());
  std::vector<float> back(weights.size());
  dequantize_row(QuantFormat::gguf(type), row.data(), k, back.data());
  return back;
}

double relative_error(const std::vector<float>& wanted, const std::vector<float>& got) {
  double error = 0, power = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - static_cast<double>(wanted[i]), 2);
    power += std::pow(static_cast<double>(wanted[i]), 2);
  }
  return std::sqrt(error / power);
}

std::vector<float> gaussian(size_t count, float spread, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Bound {
  GgufType type;
  double error;  // root mean square on Gaussian weights over their spread: measured 0.5 to 2 % lower
};
// llama.cpp's reference quantisers have 0.0054 (Q8_0), 0.086 and 0.078 (Q4_0, Q4_1), 0.043 and 0.038 (Q5_0, Q5_1),
// 0.297, 0.151, 0.0715, 0.0362, 0.0178 (Q2_K to Q6_K), 0.0762, 0.0768 (IQ4_NL, IQ4_XS) and 0.114 (MXFP4).
const Bound kBounds[] = {
    {GgufType::kF32, 0},       {GgufType::kF16, 3e-4},      {GgufType::kBF16, 2e-3},     {GgufType::kQ8_0, 0.0055},
    {GgufType::kQ4_0, 0.0825}, {GgufType::kQ4_1, 0.0705},   {GgufType::kQ5_0, 0.0408},   {GgufType::kQ5_1, 0.0338},
    {GgufType::kQ2_K, 0.27},   {GgufType::kQ3_K, 0.147},    {GgufType::kQ4_K, 0.0715},   {GgufType::kQ5_K, 0.0358},
    {GgufType::kQ6_K, 0.0171}, {GgufType::kIQ4_NL, 0.0748}, {GgufType::kIQ4_XS, 0.0755}, {GgufType::kMXFP4, 0.1135},
};

class Quantize : public testing::TestWithParam<Bound> {};

TEST_P(Quantize, RandomWeights) {
  for (const float spread : {0.02f, 30.0f, 1e-3f}) {
    const std::vector<float> weights = gaussian(64 * kWidth, spread, 5);
    EXPECT_LE(relative_error(weights, there_and_back(GetParam().type, weights)), GetParam().error) << spread;
  }
}

// Few large weights among small ones, and weights that are not around zero.
TEST_P(Quantize, UnevenWeights) {
  std::vector<float> outliers = gaussian(16 * kWidth, 0.01f, 6);
  for (size_t i = 0; i < outliers.size(); i += 97) outliers[i] *= 20;
  EXPECT_LE(relative_error(outliers, there_and_back(GetParam().type, outliers)), 2.5 * GetParam().error);
  std::vector<float> shifted = gaussian(16 * kWidth, 0.01f, 7);
  for (float& weight : shifted) weight += 0.03f;
  EXPECT_LE(relative_error(shifted, there_and_back(GetParam().type, shifted)), 1.1 * GetParam().error);
}

TEST_P(Quantize, ZerosAreExact) {
  const std::vector<float> zeros(kWidth, 0.0f);
  EXPECT_EQ(there_and_back(GetParam().type, zeros), zeros);
}

// A block of zeros beside others, and weights so small or large that scales leave what f16 can say.
TEST_P(Quantize, ExtremesStayFinite) {
  for (const float spread : {1e-12f, 1e-38f, 3e4f}) {
    std::vector<float> weights = gaussian(kWidth, spread, 8);
    std::fill(weights.begin(), weights.begin() + 32, 0.0f);
    const std::vector<float> back = there_and_back(GetParam().type, weights);
    for (size_t i = 0; i < back.size(); ++i) {
      ASSERT_TRUE(std::isfinite(back[i])) << spread;
      if (i < 32) {
        ASSERT_EQ(back[i], 0) << spread;
      }
    }
  }
}

// What a block can say exactly is read back exactly: a grid of whole numbers times a power of two.
TEST_P(Quantize, RepresentableWeights) {
  const GgufType type = GetParam().type;
  int low = 0, high = 0;
  switch (type) {
    case GgufType::kQ4_0:
      low = -8, high = 7;
      break;
    case GgufType::kQ5_0:
      low = -16, high = 15;
      break;
    case GgufType::kQ8_0:
      low = -127, high = 127;
      break;
    case GgufType::kQ4_1:
    case GgufType::kQ4_K:
      low = -3, high = 12;
      break;
    case GgufType::kQ5_1:
    case GgufType::kQ5_K:
      low = -9, high = 22;
      break;
    case GgufType::kQ2_K:
      low = -1, high = 2;
      break;
    case GgufType::kQ3_K:
      low = -4, high = 3;
      break;
    case GgufType::kQ6_K:
      low = -32, high = 31;
      break;
    default:
      low = -1, high = 1;
  }
  std::mt19937 random(9);
  std::vector<float> weights(kWidth);
  for (float& weight : weights) weight = static_cast<float>(std::uniform_int_distribution(low, high)(random));
  for (size_t group = 0; group < weights.size(); group += 16) {  // both ends in every group
    weights[group] = static_cast<float>(low);
    weights[group + 1] = static_cast<float>(high);
  }
  const bool grid = type != GgufType::kIQ4_NL && type != GgufType::kIQ4_XS;
  std::vector<float> wanted = weights;
  if (!grid) {  // code points of its own
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = kIq4Values[i % 16];
  }
  for (float& weight : wanted) weight *= 0.25f;
  // Whole-number scales of groups stand for a scale of the block that f16 rounds.
  const std::vector<float> back = there_and_back(type, wanted);
  const double tolerance = is_plain(type) || gguf_type_info(type).block_elems == 32 ? 0 : 1e-3;
  EXPECT_LE(relative_error(wanted, back), tolerance);
}

INSTANTIATE_TEST_SUITE_P(Types, Quantize, testing::ValuesIn(kBounds),
                         [](const auto& each) { return std::string(gguf_type_info(each.param.type).name); });

}  // namespace
}  // namespace baize
