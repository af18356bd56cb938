// What a load test found: its results as numbers, a table for people and JSON. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/load_result.h"

namespace baize::apps {

/// What the report says about the test besides its results.
struct LoadSetup {
  std::string url, model, endpoint, load, lengths;  // the last two in words: "closed loop, 8 at a time"
  uint64_t seed = 0;
  bool streamed = true, interrupted = false, counted = true;  // counted: the server says how many tokens there were
  double slo_ttft = 0, slo_itl = 0, slo_e2e = 0;              // milliseconds; 0: no such objective

  bool has_slo() const { return slo_ttft > 0 || slo_itl > 0 || slo_e2e > 0; }
};

/// Milliseconds; percentiles are interpolated between the two nearest values.
struct Spread {
  size_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};

/// Changes the order of `values`.
Spread spread_of(std::vector<float>& values);

struct FailureCount {
  int64_t count = 0;
  std::string first;  // sentence
};

struct LoadSummary {
  double seconds = 0;  // from the first request to the end of the last
  int64_t requests = 0, ok = 0, failed = 0, stopped = 0;
  std::map<std::string, FailureCount> failures;
  int64_t input_tokens = 0, cached_tokens = 0, output_tokens = 0;  // of requests that succeeded
  int64_t shorter = 0;                                             // answers that ended before they were to
  int64_t peak = 0;                                                // requests at the same time
  Spread ttft, tpot, itl, e2e, late;                               // late: sent after its time of arrival
  int64_t good = 0;                                                // requests that met every objective

  double per_second(int64_t count) const { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }
};

LoadSummary summarise(const LoadSetup& setup, const std::vector<LoadResult>& results);

/// For a terminal; ends with a newline.
std::string load_table(const LoadSetup& setup, const LoadSummary& summary);

/// Everything in the table, and each request. Times in milliseconds, the requests' starts in seconds.
nlohmann::json load_json(const LoadSetup& setup, const LoadSummary& summary, const std::vector<LoadResult>& results);

}  // namespace baize::apps
