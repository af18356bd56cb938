// Log probabilities of tokens, from a row of raw logits on the host. Any thread.
#pragma once

#include <span>

#include "engine/request.h"

namespace baize {

/// How likely `logits` (of one row, [vocab]) hold `token`, and their `top` most likely tokens, best first, the lower id
/// first on a tie. Sums in double; a row with NaN gives NaN.
TokenLogprobs token_logprobs(std::span<const float> logits, Token token, int32_t top);

}  // namespace baize
