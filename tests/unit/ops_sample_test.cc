// Sampling against its definition: exact distributions by chi-square, the limits of every parameter, bad rows.
#include "ops/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ops/philox.h"

namespace baize {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Token sample_one(std::vector<float> logits, const SampleParams& params, std::span<const Token> history = {},
                 std::span<const LogitBias> bias = {}) {
  const SampleRow row{params, history, history, bias};
  Token out = -2;
  sample_on_host({{&row, 1}, {&out, 1}}, Tensor(logits.data(), DType::kF32, {1, static_cast<int64_t>(logits.size())}));
  return out;
}

std::vector<float> random_logits(size_t vocab, uint32_t seed, float deviation = 2.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(vocab);
  for (float& x : logits) x = normal(random);
  return logits;
}

// How often each token is drawn over many positions.
std::map<Token, int> histogram(const std::vector<float>& logits, SampleParams params, int draws) {
  std::map<Token, int> counts;
  for (int i = 0; i < draws; ++i) {
    params.position = i;
    ++counts[sample_one(logits, params)];
  }
  return counts;
}

// Probabilities after a full sort and textbook filters, in double.
std::map<Token, double> reference(const std::vector<float>& logits, const SampleParams& p) {
  struct Entry {
    Token token;
    double probability;
  };
  std::vector<Entry> entries;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -kInf) entries.push_back({static_cast<Token>(i), std::exp(logits[i] / double{p.temperature})});
  }
  const auto normalise = [&] {
    double total = 0;
    for (const Entry& e : entries) total += e.probability;
    for (Entry& e : entries) e.probability /= total;
  };
  const auto keep_mass = [&](double mass) {
    double sum = 0;
    size_t n = 0;
    while (n < entries.size() && (n == 0 || sum < mass)) sum += entries[n++].probability;
    entries.resize(n);
    normalise();
  };
  const auto sort_likely = [&] {
    std::sort(entries.begin(), entries.end(), [](auto& a, auto& b) {
      return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
    });
  };
  sort_likely();
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < entries.size()) entries.resize(static_cast<size_t>(p.top_k));
  normalise();
  if (p.typical_p < 1) {
    double entropy = 0;
    for (const Entry& e : entries) entropy -= e.probability * std::log(e.probability);
    const auto surprise = [&](const Entry& e) { return std::abs(-std::log(e.probability) - entropy); };
    std::sort(entries.begin(), entries.end(), [&](auto& a, auto& b) {
      return surprise(a) != surprise(b) ? surprise(a) < surprise(b) : a.token < b.token;
    });
    keep_mass(p.typical_p);
    sort_likely();
  }
  if (p.top_p < 1) keep_mass(p.top_p);
  const double bar = p.min_p * entries.front().probability;
  std::erase_if(entries, [&](const Entry& e) { return e.probability < bar; });
  normalise();
  std::map<Token, double> result;
  for (const Entry& e : entries) result[e.token] = e.probability;
  return result;
}

TEST(Philox, KnownAnswersOfRandom123) {
  constexpr uint32_t kOnes = 0xffffffffu;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
            (std::array<uint32_t, 4>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

class SampleDistribution : public testing::TestWithParam<SampleParams> {};

TEST_P(SampleDistribution, MatchesItsDefinition) {
  constexpr int kDraws = 20000;
  const std::vector<float> logits = random_logits(100, 11, 1.5f);
  const auto expected = reference(logits, GetParam());
  const auto counts = histogram(logits, GetParam(), kDraws);
  for (const auto& [token, count] : counts) {
    ASSERT_TRUE(expected.contains(token)) << "token " << token << " was drawn " << count << " times, not allowed";
  }
  double chi_square = 0;
  double rest_expected = 0;  // cells with few expected draws are pooled
  double rest_counted = 0;
  int cells = 0;
  for (const auto& [token, probability] : expected) {
    const double want = probability * kDraws;
    const auto found = counts.find(token);
    const double got = found == counts.end() ? 0 : found->second;
    if (want < 5) {
      rest_expected += want;
      rest_counted += got;
      continue;
    }
    chi_square += (got - want) * (got - want) / want;
    ++cells;
  }
  if (rest_expected > 0) chi_square += std::pow(rest_counted - rest_expected, 2) / std::max(rest_expected, 1.0);
  // Mean `cells`, deviation sqrt(2 * cells): five deviations; the seed is fixed, so this passes always or never.
  EXPECT_LT(chi_square, cells + 5 * std::sqrt(2.0 * cells) + 5);
}

std::vector<SampleParams> distributions() {
  std::vector<SampleParams> all(10);
  all[1].temperature = 0.5f;
  all[2].temperature = 3.0f;
  all[3].top_k = 7;
  all[4].top_p = 0.6f;
  all[5].min_p = 0.1f;
  all[6].typical_p = 0.5f;
  all[7].top_k = 20;
  all[7].top_p = 0.8f;
  all[7].temperature = 1.3f;
  all[8].typical_p = 0.9f;
  all[8].top_p = 0.9f;
  all[8].min_p = 0.05f;
  all[9].top_k = 40;
  all[9].typical_p = 0.8f;
  all[9].top_p = 0.95f;
  all[9].min_p = 0.02f;
  all[9].temperature = 0.8f;
  for (size_t i = 0; i < all.size(); ++i) all[i].seed = 0x9e3779b97f4a7c15u * (i + 1);
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, SampleDistribution, testing::ValuesIn(distributions()));

// The support of each filter over a large vocabulary, where selection is partial, equals that of a full sort.
TEST(Sample, FiltersKeepExactlyTheRightTokensOfALargeVocabulary) {
  const std::vector<float> logits = random_logits(5000, 3, 1.0f);
  for (const float top_p : {0.0f, 0.01f, 0.5f, 0.9f}) {
    SampleParams params{.top_p = top_p, .seed = 5};
    const auto expected = reference(logits, params);
    std::set<Token> drawn;
    for (params.position = 0; params.position < 2000; ++params.position) drawn.insert(sample_one(logits, params));
    for (const Token token : drawn) EXPECT_TRUE(expected.contains(token)) << "top_p " << top_p;
    if (expected.size() < 30) {
      EXPECT_EQ(drawn.size(), expected.size()) << "top_p " << top_p;
    }
  }
}

TEST(Sample, TopKKeepsTheKMostLikelyOfALargeVocabulary) {
  const std::vector<float> logits = random_logits(5000, 4, 0.3f);
  for (const int k : {2, 5, 9}) {
    SampleParams params{.top_k = k, .seed = 6};
    std::set<Token> drawn;
    for (params.position = 0; params.position < 1000; ++params.position) drawn.insert(sample_one(logits, params));
    std::set<Token> expected;
    for (const auto& [token, probability] : reference(logits, params)) expected.insert(token);
    EXPECT_EQ(drawn, expected) << "k " << k;
  }
}

TEST(Sample, GreedyTakesTheHighestAndTheLowestIdOnATie) {
  std::vector<float> logits = random_logits(1000, 1);
  logits[400] = logits[77] = logits[990] = 50;
  EXPECT_EQ(sample_one(logits, {.temperature = 0}), 77);
  EXPECT_EQ(sample_one({1, 3, 3}, {.temperature = 0}), 1);
}

TEST(Sample, NarrowLimitsEqualGreedy) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::vector<float> logits = random_logits(333, seed);
    logits[5] = logits[200] = *std::max_element(logits.begin(), logits.end()) + 1;  // a tie on top
    const Token greedy = sample_one(logits, {.temperature = 0});
    EXPECT_EQ(greedy, 5);
    EXPECT_EQ(sample_one(logits, {.top_k = 1, .seed = seed}), greedy);
    EXPECT_EQ(sample_one(logits, {.top_p = 0, .seed = seed}), greedy);
    logits[200] = 0;
    EXPECT_EQ(sample_one(logits, {.min_p = 1, .seed = seed}), greedy);
    EXPECT_EQ(sample_one(logits, {.temperature = 1e-4f, .seed = seed}), greedy);
  }
}

TEST(Sample, TopKOfTheWholeVocabularyChangesNothing) {
  const std::vector<float> logits = random_logits(50, 8);
  for (int64_t position = 0; position < 100; ++position) {
    const Token all = sample_one(logits, {.position = position});
    EXPECT_EQ(sample_one(logits, {.top_k = 50, .position = position}), all);
    EXPECT_EQ(sample_one(logits, {.top_k = 1000000, .position = position}), all);
  }
}

TEST(Sample, TopKBreaksTiesByTheLowerId) {
  const std::vector<float> logits(300, 1.0f);
  const auto counts = histogram(logits, {.top_k = 3}, 300);
  ASSERT_EQ(counts.size(), 3u);
  EXPECT_EQ(counts.rbegin()->first, 2);
}

TEST(Sample, DependsOnSeedAndPositionOnly) {
  const std::vector<float> logits = random_logits(64, 2, 0.5f);
  std::vector<float> batch;
  std::vector<SampleRow> rows;
  for (int i = 0; i < 12; ++i) {
    batch.insert(batch.end(), logits.begin(), logits.end());
    rows.push_back({{.seed = static_cast<uint64_t>(i % 3), .position = i / 3}, {}, {}, {}});
  }
  std::vector<Token> together(rows.size());
  sample_on_host({rows, together}, Tensor(batch.data(), DType::kF32, {12, 64}));
  std::set<Token> distinct;
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(together[i], sample_one(logits, rows[i].params));
    distinct.insert(together[i]);
  }
  EXPECT_GT(distinct.size(), 4u);  // seeds and positions matter
}

TEST(Sample, BiasForbidsAndForces) {
  const std::vector<float> logits = random_logits(40, 12);
  const Token best = sample_one(logits, {.temperature = 0});
  const std::array<LogitBias, 1> forbid = {{{best, -kInf}}};
  for (int64_t position = 0; position < 500; ++position) {
    EXPECT_NE(sample_one(logits, {.seed = 3, .position = position}, {}, forbid), best);
  }
  const std::array<LogitBias, 1> favour = {{{17, 100}}};
  EXPECT_EQ(sample_one(logits, {.seed = 3}, {}, favour), 17);
  const std::array<LogitBias, 1> force = {{{18, kInf}}};
  EXPECT_EQ(sample_one(logits, {.seed = 3}, {}, force), 18);
}

TEST(Sample, PenaltiesFollowTheirFormulas) {
  const std::vector<Token> history = {0, 0, 0, 1, 2, 900, -7};  // tokens outside the vocabulary count for nothing
  // Repetition: 4 / 2 < 3, and -1 * 2 < -1.5.
  EXPECT_EQ(sample_one({4, 3, -9, 2.5f}, {.repetition_penalty = 2, .temperature = 0}, history), 3);
  EXPECT_EQ(sample_one({-1, -9, -9, -1.5f}, {.repetition_penalty = 2, .temperature = 0}, history), 3);
  EXPECT_EQ(sample_one({-1, -9, -9, -2.5f}, {.repetition_penalty = 2, .temperature = 0}, history), 0);
  // Frequency: 4 - 3 * 0.5 = 2.5 against 3 - 0.5 and 2.6.
  EXPECT_EQ(sample_one({4, 3, 0, 2.6f}, {.frequency_penalty = 0.5f, .temperature = 0}, history), 3);
  EXPECT_EQ(sample_one({4, 3, 0, 2.4f}, {.frequency_penalty = 0.5f, .temperature = 0}, history), 0);
  // Presence: once, however often it was seen.
  EXPECT_EQ(sample_one({4, 3, 0, 3.4f}, {.presence_penalty = 0.5f, .temperature = 0}, history), 0);
  EXPECT_EQ(sample_one({4, 3, 0, 3.6f}, {.presence_penalty = 0.5f, .temperature = 0}, history), 3);

  // Of a prompt, only the repetition penalty takes notice.
  std::vector<float> logits = {4, 3};
  Token drawn = -2;
  const std::vector<Token> prompt = {0, 0, 1};
  SampleRow row{{.frequency_penalty = 2, .presence_penalty = 2, .temperature = 0}, prompt, {}, {}};
  sample_on_host({{&row, 1}, {&drawn, 1}}, Tensor(logits.data(), DType::kF32, {1, 2}));
  EXPECT_EQ(drawn, 0);
  row.drawn = std::span(prompt).first(1);
  sample_on_host({{&row, 1}, {&drawn, 1}}, Tensor(logits.data(), DType::kF32, {1, 2}));
  EXPECT_EQ(drawn, 1);
}

TEST(Sample, BadRowsYieldNoToken) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const size_t vocab : {1u, 5u, 16u, 17u, 100u}) {
    for (const float temperature : {0.0f, 1.0f}) {
      for (size_t at = 0; at < vocab; at += 3) {
        std::vector<float> logits = random_logits(vocab, 9);
        logits[at] = nan;
        EXPECT_EQ(sample_one(logits, {.temperature = temperature}), -1);
      }
      EXPECT_EQ(sample_one(std::vector<float>(vocab, -kInf), {.temperature = temperature}), -1);
    }
  }
  EXPECT_EQ(sample_one({0, kInf, nan}, {}), -1);
  EXPECT_EQ(sample_one({0, -kInf, kInf, kInf}, {}), 2);
}

TEST(Sample, OneAllowedTokenIsTaken) {
  std::vector<float> logits(2000, -kInf);
  logits[1234] = -80;
  for (const SampleParams& params : distributions()) EXPECT_EQ(sample_one(logits, params), 1234);
}

}  // namespace
}  // namespace baize
