#include "ops/sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/mutate.h"
#include "ops/philox.h"

namespace baize {

namespace {

struct Candidate {
  float logit;
  Token token;
  float weight = 0;        // exp((logit - highest) / temperature)
  double atypicality = 0;  // distance of its information content from the entropy
};
using Candidates = std::vector<Candidate>;

// A token whose logit lies this many temperatures below the highest has a probability under 2e-22: even 2^18 such
// tokens together weigh less than the last bit of the random draw.
constexpr float kNegligible = 50.0f;

bool likelier(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// Calls visit(logit, count) for every distinct token of `seen` that the vocabulary has.
template <typename Visit>
void for_each_seen(std::span<const Token> seen, float* logits, int64_t vocab, const Visit& visit) {
  std::vector<Token> sorted(seen.begin(), seen.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    while (end < sorted.size() && sorted[end] == sorted[begin]) ++end;
    if (sorted[begin] >= 0 && sorted[begin] < vocab) visit(logits[sorted[begin]], static_cast<float>(end - begin));
  }
}

// Bias, then the penalties, on the few tokens they concern.
void adjust(const SampleRow& row, float* logits, int64_t vocab) {
  for (const LogitBias& bias : row.bias) {
    if (mutated("sample.bias")) break;
    BAIZE_CHECK(bias.token >= 0 && bias.token < vocab);
    logits[bias.token] += bias.bias;
  }
  const SampleParams& p = row.params;
  if (p.repetition_penalty != 1 && !mutated("sample.repetition")) {
    for_each_seen(row.history, logits, vocab, [&](float& logit, float) {
      logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
    });
  }
  const float frequency = mutated("sample.frequency") ? 0 : p.frequency_penalty;
  const float presence = mutated("sample.presence") ? 0 : p.presence_penalty;
  if (frequency != 0 || presence != 0) {
    for_each_seen(row.drawn, logits, vocab, [&](float& logit, float count) { logit -= frequency * count + presence; });
  }
}

// The first token with the highest logit; -1 if a logit is NaN or all are -infinity. Sixteen lanes keep the scan at the
// speed of the cache.
Token find_highest(const float* logits, int64_t vocab) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> highest;
  std::array<float, kLanes> nans{};  // NaN once a lane met one, else 0
  highest.fill(-std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + static_cast<int64_t>(kLanes) <= vocab; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float x = logits[i + static_cast<int64_t>(lane)];
      highest[lane] = x > highest[lane] ? x : highest[lane];
      nans[lane] = x == x ? nans[lane] : x;
    }
  }
  for (; i < vocab; ++i) {
    highest[0] = logits[i] > highest[0] ? logits[i] : highest[0];
    nans[0] = logits[i] == logits[i] ? nans[0] : logits[i];
  }
  for (const float n : nans) {
    if (std::isnan(n)) return -1;
  }
  const float top = *std::max_element(highest.begin(), highest.end());
  if (top == -std::numeric_limits<float>::infinity()) return -1;
  return static_cast<Token>(std::find(logits, logits + vocab, top) - logits);
}

// The `k` most likely tokens, in no order: collects those above the k-th best so far, and prunes now and then.
Candidates top_k_candidates(const float* logits, int64_t vocab, size_t k) {
  Candidates kept;
  kept.reserve(4 * k + 64);
  const auto prune = [&] {
    std::nth_element(kept.begin(), kept.begin() + static_cast<ptrdiff_t>(k) - 1, kept.end(), likelier);
    kept.resize(k);
  };
  float bar = -std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < vocab; ++i) {
    if (logits[i] <= bar) continue;  // equal to the bar: the k kept before have lower ids
    kept.push_back({logits[i], static_cast<Token>(i)});
    if (kept.size() == kept.capacity()) {
      prune();
      bar = kept.back().logit;
      for (const Candidate& c : kept) bar = std::min(bar, c.logit);
    }
  }
  if (kept.size() > k) prune();
  return kept;
}

Candidates likely_candidates(const float* logits, int64_t vocab, float bar) {
  Candidates kept;
  for (int64_t i = 0; i < vocab; ++i) {
    if (logits[i] >= bar && logits[i] > -std::numeric_limits<float>::infinity()) {
      kept.push_back({logits[i], static_cast<Token>(i)});
    }
  }
  return kept;
}

double total_weight(const Candidates& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

// Keeps the shortest prefix in the order `before` that weighs at least `mass`, at least one. Sorts no further than
// that.
template <typename Before>
void keep_prefix(Candidates& candidates, double mass, const Before& before) {
  double sum = 0;
  ptrdiff_t piece = 64;
  for (auto begin = candidates.begin(); begin != candidates.end(); piece *= 4) {
    const auto end = candidates.end() - begin > piece ? begin + piece : candidates.end();
    if (end != candidates.end()) std::nth_element(begin, end, candidates.end(), before);
    std::sort(begin, end, before);
    for (; begin != end; ++begin) {
      sum += begin->weight;
      if (sum >= mass) {
        candidates.erase(begin + 1, candidates.end());
        return;
      }
    }
  }
}

// Locally typical sampling: those whose information content is nearest to the distribution's entropy.
void filter_typical(Candidates& candidates, double typical_p) {
  const double total = total_weight(candidates);
  double entropy = 0;
  for (const Candidate& c : candidates) {
    if (c.weight > 0) entropy -= c.weight / total * std::log(c.weight / total);
  }
  std::erase_if(candidates, [](const Candidate& c) { return c.weight <= 0; });
  for (Candidate& c : candidates) c.atypicality = std::abs(-std::log(c.weight / total) - entropy);
  keep_prefix(candidates, typical_p * total, [](const Candidate& a, const Candidate& b) {
    return a.atypicality != b.atypicality ? a.atypicality < b.atypicality : likelier(a, b);
  });
}

void filter_top_p(Candidates& candidates, double top_p) {
  const double total = total_weight(candidates);
  // Tokens below this weight add up to less than the mass to cut, so none of them is kept: spare the sort most of them.
  const double bar = (1 - top_p) * total / static_cast<double>(candidates.size());
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < bar; });
  keep_prefix(candidates, top_p * total, likelier);
}

void filter_min_p(Candidates& candidates, float min_p) {
  float top = 0;
  for (const Candidate& c : candidates) top = std::max(top, c.weight);
  std::erase_if(candidates, [&](const Candidate& c) { return c.weight < min_p * top; });
}

// Inverts the distribution function, tokens in the order of their ids, at a uniform draw of {seed, position}.
Token draw(Candidates& candidates, const SampleParams& params) {
  const auto by_id = [](const Candidate& a, const Candidate& b) { return a.token < b.token; };
  if (!std::is_sorted(candidates.begin(), candidates.end(), by_id)) {
    std::sort(candidates.begin(), candidates.end(), by_id);
  }
  const double target = uniform_draw(params.seed, static_cast<uint64_t>(params.position)) * total_weight(candidates);
  double sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (sum > target) return c.token;
  }
  BAIZE_UNREACHABLE("the draw lies below the total weight");
}

Token sample_row(const SampleRow& row, float* logits, int64_t vocab) {
  const SampleParams& p = row.params;
  adjust(row, logits, vocab);
  const Token top = find_highest(logits, vocab);
  if (top < 0 || p.temperature <= 0 || p.top_k == 1 || std::isinf(logits[top])) return top;

  const float highest = logits[top];
  Candidates candidates = p.top_k > 0 && p.top_k < vocab && !mutated("sample.top_k")
                              ? top_k_candidates(logits, vocab, static_cast<size_t>(p.top_k))
                              : likely_candidates(logits, vocab, highest - kNegligible * p.temperature);
  for (Candidate& c : candidates) c.weight = std::exp((c.logit - highest) / p.temperature);
  if (p.typical_p < 1 && !mutated("sample.typical_p")) filter_typical(candidates, p.typical_p);
  if (p.top_p < 1 && !mutated("sample.top_p")) filter_top_p(candidates, p.top_p);
  if (p.min_p > 0 && !mutated("sample.min_p")) filter_min_p(candidates, p.min_p);
  return draw(candidates, p);
}

}  // namespace

void sample_on_host(const SampleArgs& args, const Tensor& logits) {
  BAIZE_CHECK(args.out.size() == args.rows.size() && logits.shape[0] == static_cast<int64_t>(args.rows.size()));
  for (size_t r = 0; r < args.rows.size(); ++r) {
    float* row = logits.as<float>() + static_cast<int64_t>(r) * logits.strides[0];
    args.out[r] = sample_row(args.rows[r], row, logits.shape[1]);
  }
}

}  // namespace baize
