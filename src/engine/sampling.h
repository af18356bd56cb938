// SamplingParams: how a request wants its tokens drawn, and the one table of those parameters from which their checks,
// command line options, /set and checkpoint defaults come. Plain data; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ops/sample.h"

namespace baize {

/// `position` is set for each draw.
struct SamplingParams : SampleParams {
  int64_t penalty_window = 0;  // newest tokens that the penalties look at; 0: all of them
  std::vector<LogitBias> logit_bias;
};

/// One numeric parameter. Its name is also its key in generation_config.json.
struct SamplingField {
  const char* name;  // "top_p"
  const char* help;
  double min, max;  // both allowed
  bool integer;
  double (*get)(const SamplingParams&);
  void (*set)(SamplingParams&, double);
};

std::span<const SamplingField> sampling_fields();

/// nullptr for an unknown name.
const SamplingField* find_sampling_field(std::string_view name);

/// Throws Error(kInvalidArgument) with the allowed range unless `value` may be given to `field`.
void check_sampling_value(const SamplingField& field, double value);

/// Throws Error(kInvalidArgument) for the first parameter out of its range, or a bias for a token outside the
/// vocabulary.
void check_sampling(const SamplingParams& params, int64_t vocab);

}  // namespace baize
