// EngineStats: what an engine has done and what it holds, for metrics and benchmarks. Plain data, a consistent copy of
// one moment between two steps.
#pragma once

#include <cstdint>

namespace baize {

struct EngineStats {
  // Now.
  int64_t running = 0;  // sequences that take part in steps
  int64_t waiting = 0;
  int64_t pages = 0;         // of the cache
  int64_t pages_used = 0;    // by sequences that run
  int64_t pages_cached = 0;  // kept for later prompts only

  // Since the start.
  int64_t steps = 0;
  int64_t rows = 0;           // tokens computed
  int64_t drawn = 0;          // tokens drawn
  int64_t prompt_tokens = 0;  // of admitted requests
  int64_t cached_tokens = 0;  // of those: found in the cache
  int64_t preemptions = 0;    // sequences whose pages were taken; they are computed again
  int64_t finished[4] = {};   // by FinishReason
  int64_t failed = 0;
};

}  // namespace baize
