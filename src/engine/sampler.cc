#include "engine/sampler.h"

#include <algorithm>
#include <limits>

namespace baize {

Sampler::Sampler(const GenRequest& request) : request_(request), biased_(request.sampling.logit_bias) {
  for (const Token stop : request.stop_ids) biased_.push_back({stop, -std::numeric_limits<float>::infinity()});
}

SampleRow Sampler::row(const Sequence& sequence) const {
  const int64_t new_tokens = sequence.size() - static_cast<int64_t>(request_.prompt.size());
  const SamplingParams& sampling = request_.sampling;
  SampleRow row;
  row.params = static_cast<const SampleParams&>(sampling);
  row.params.position = sequence.size();
  const auto window = static_cast<size_t>(sampling.penalty_window);
  row.history = sequence.tokens;
  if (window > 0 && window < row.history.size()) row.history = row.history.last(window);
  row.drawn = row.history.last(std::min(row.history.size(), static_cast<size_t>(new_tokens)));
  row.bias = biased_;
  if (new_tokens >= request_.min_tokens) row.bias = row.bias.first(sampling.logit_bias.size());
  return row;
}

}  // namespace baize
