// What became of one request of a load test. Filled by the load client, read by the report. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baize::apps {

struct LoadResult {
  enum State { kNotSent, kOk, kFailed, kStopped };  // kStopped: Ctrl-C came before its end

  State state = kNotSent;
  std::string failure;                     // what kind: "HTTP 429", "connection", "timeout", ...
  std::string sentence;                    // and in words
  double planned = 0, start = 0, end = 0;  // seconds after the start of the test
  std::vector<uint32_t> events;            // microseconds after `start` at which text came
  int64_t prompt_tokens = -1, cached_tokens = 0, output_tokens = -1;  // as the server counted; -1: it did not say
  int64_t wanted_tokens = 0;                                          // output tokens that were asked for

  double seconds() const { return end - start; }
  /// Seconds to the first text; an answer without any was first seen at its end.
  double first() const { return events.empty() ? seconds() : events.front() * 1e-6; }
  /// Tokens of the answer; events where the server does not count.
  int64_t tokens() const { return output_tokens >= 0 ? output_tokens : static_cast<int64_t>(events.size()); }
  /// Seconds a token after the first; 0 for a single one.
  double per_token() const { return tokens() > 1 ? (seconds() - first()) / static_cast<double>(tokens() - 1) : 0; }
};

}  // namespace baize::apps
