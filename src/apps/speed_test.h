// SpeedTest: times the steps of a loaded model: whole prompts and single tokens, through the same Runner and cache as
// the engine. Main thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/load.h"

namespace baize::apps {

/// Prefill computes `tokens` tokens of a new text, decode one after another behind `depth` others.
struct SpeedCase {
  enum Kind { kPrefill, kDecode } kind = kPrefill;
  int64_t tokens = 0;
  int64_t depth = 0;

  std::string name() const;  // "prefill 512", "decode 128 after 512"
};

struct SpeedResult {
  SpeedCase test;
  std::vector<double> seconds;  // of every repeat
  StepCost cost;                // of one repeat
  double median() const;
};

class SpeedTest {
 public:
  /// Takes memory for sequences of `context` tokens. `loaded` must outlive it.
  SpeedTest(const LoadedModel& loaded, int64_t context);

  /// Times every case once a round, so that slow spells of the machine hit all alike, after one untimed round.
  std::vector<SpeedResult> run(const std::vector<SpeedCase>& cases, int repeats);

 private:
  double time(const SpeedCase& test);
  void advance(Sequence& sequence, int64_t tokens);
  StepCost cost(const SpeedCase& test) const;

  const LoadedModel& loaded_;
  EngineLimits limits_;
  Runner runner_;
  BlockPool pool_;
};

}  // namespace baize::apps
