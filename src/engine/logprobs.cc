#include "engine/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace baize {

TokenLogprobs token_logprobs(std::span<const float> logits, Token token, int32_t top) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  const double normaliser = highest + std::log(sum);
  const auto logprob = [&](Token id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - normaliser);
  };
  TokenLogprobs result;
  result.logprob = logprob(token);
  if (top <= 0 || std::isnan(normaliser)) return result;
  std::vector<Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min<ptrdiff_t>(top, std::ssize(order));
  std::partial_sort(order.begin(), end, order.end(), [&](Token a, Token b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (auto id = order.begin(); id != end; ++id) result.top.push_back({*id, logprob(*id)});
  return result;
}

}  // namespace baize
