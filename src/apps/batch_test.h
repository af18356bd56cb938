// BatchTest: how fast the engine answers many requests at once, without HTTP. Main thread.
#pragma once

#include <cstdint>
#include <vector>

#include "apps/load.h"

namespace baize::apps {

/// `streams` requests come at the same moment, each with its own prompt of `prompt` tokens, for `tokens` new ones.
struct BatchCase {
  int64_t streams = 1, prompt = 1, tokens = 1;
};

struct BatchResult {
  BatchCase test;
  double first_median = 0, first_last = 0;  // seconds to the first token
  double decode_rate = 0;                   // tokens a second, all together, while every stream runs
  double total_rate = 0;                    // tokens a second from the first submit to the last token
  double per_stream() const { return decode_rate / static_cast<double>(test.streams); }
};

/// Runs one case on an engine that serves nobody else.
BatchResult run_batch(Engine& engine, const BatchCase& test);

}  // namespace baize::apps
