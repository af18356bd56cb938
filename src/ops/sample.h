// Sampling: from a row of logits to one token. The draw depends on {seed, position} and the row's logits only, never on
// the batch around it. sample_on_host is the definition; a device backend reproduces it. Any thread.
//
// Each filter sees the probabilities that the ones before it left, summed to 1 again, and keeps at least one token.
// Ties go to the lower id. The penalties and the temperature are those of the `transformers` library and llama.cpp,
// which agree, the filters' order is llama.cpp's; both differ from this only on ties (`transformers` keeps every token
// that ties with the k-th). The draw inverts the distribution function, tokens in the order of their ids, at one
// uniform number that Philox makes of the seed and the position (ops/philox.h).
#pragma once

#include <cstdint>
#include <span>

#include "base/ids.h"
#include "tensor/tensor.h"

namespace baize {

/// What shapes the distribution of one row, applied in the order of the fields. Defaults change nothing.
struct SampleParams {
  float repetition_penalty =
      1;  // > 0: seen tokens' logits are divided (if > 0) or multiplied by it (Keskar et al. 2019)
  float frequency_penalty = 0;  // subtracted once per earlier draw (OpenAI API)
  float presence_penalty = 0;   // subtracted once if drawn before at all
  float temperature = 1;        // 0: greedy, the highest logit, the lowest id on a tie
  int32_t top_k = 0;            // > 0: only the k most likely
  float typical_p = 1;          // < 1: locally typical sampling (Meister et al. 2022)
  float top_p = 1;              // < 1: nucleus (Holtzman et al. 2020), the token that reaches top_p included
  float min_p = 0;              // > 0: at least min_p times the top probability (Nguyen et al. 2024)
  uint64_t seed = 0;
  int64_t position = 0;  // index of the token to draw in its sequence
};

struct LogitBias {
  Token token;
  float bias;  // added before the penalties; -infinity forbids
};

struct SampleRow {
  SampleParams params;
  std::span<const Token> history;   // tokens the repetition penalty looks at (the window is cut by the caller)
  std::span<const Token> drawn;     // tokens the other penalties look at: those of history that are no prompt
  std::span<const LogitBias> bias;  // tokens < vocab
};

struct SampleArgs {
  std::span<const SampleRow> rows;  // [n]
  std::span<Token> out;             // [n]
};

/// logits: host f32 [n, vocab], used as scratch. A row with NaN, or with nothing allowed, yields token -1; a row with
/// +infinity yields the first such token.
void sample_on_host(const SampleArgs& args, const Tensor& logits);

}  // namespace baize
