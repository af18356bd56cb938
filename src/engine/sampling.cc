#include "engine/sampling.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace baize {

namespace {

constexpr double kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr double kMaxExact = 9007199254740992;  // 2^53: integers up to it survive in JSON

#define FIELD(name, type, help, min, max)                                                    \
  SamplingField {                                                                            \
    #name, help, min, max, std::is_integral_v<type>,                                         \
        [](const SamplingParams& params) { return static_cast<double>(params.name); },       \
        [](SamplingParams& params, double value) { params.name = static_cast<type>(value); } \
  }

constexpr SamplingField kFields[] = {
    FIELD(temperature, float, "randomness of the choice; 0 always takes the most likely token", 0, 100),
    FIELD(top_k, int32_t, "choose among this many most likely tokens; 0: all", 0, kMaxInt32),
    FIELD(top_p, float, "choose among the most likely tokens that add up to this probability", 0, 1),
    FIELD(min_p, float, "drop tokens less likely than this share of the most likely one", 0, 1),
    FIELD(typical_p, float, "choose among the tokens closest to the expected surprise that add up to this", 0, 1),
    FIELD(repetition_penalty, float, "makes tokens seen before less likely when above 1", 0.01, 100),
    FIELD(presence_penalty, float, "subtracted from the logit of every token drawn before", -100, 100),
    FIELD(frequency_penalty, float, "subtracted from a token's logit each time it was drawn before", -100, 100),
    FIELD(penalty_window, int64_t, "newest tokens that the penalties look at; 0: all", 0, kMaxInt32),
    FIELD(seed, uint64_t, "the same seed gives the same answer", 0, kMaxExact),
};

#undef FIELD

}  // namespace

std::span<const SamplingField> sampling_fields() { return kFields; }

const SamplingField* find_sampling_field(std::string_view name) {
  for (const SamplingField& field : kFields) {
    if (name == field.name) return &field;
  }
  return nullptr;
}

void check_sampling_value(const SamplingField& field, double value) {
  // What is no integer is kept as a float, and 0.01 as a float is a little less.
  const auto kept = [&](double v) { return field.integer ? v : static_cast<double>(static_cast<float>(v)); };
  const bool in_range = kept(value) >= kept(field.min) && kept(value) <= kept(field.max);
  if (in_range && (!field.integer || value == std::floor(value))) return;
  fail(ErrorKind::kInvalidArgument, "{} must be {} from {} to {}, not {}", field.name,
       field.integer ? "a whole number" : "a number", field.min, field.max, value);
}

void check_sampling(const SamplingParams& params, int64_t vocab) {
  for (const SamplingField& field : kFields) {
    if (std::string_view(field.name) == "seed") continue;  // every value is fine
    check_sampling_value(field, field.get(params));
  }
  for (const LogitBias& bias : params.logit_bias) {
    if (bias.token < 0 || bias.token >= vocab) {
      fail(ErrorKind::kInvalidArgument, "logit_bias names token {}, but the vocabulary has tokens 0 to {}", bias.token,
           vocab - 1);
    }
    if (std::isnan(bias.bias))
      fail(ErrorKind::kInvalidArgument, "the logit_bias of token {} is not a number", bias.token);
  }
}

}  // namespace baize
