#include "apps/speed_test.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"

namespace baize::apps {

namespace {

// Tokens do not matter for speed; these are spread over the vocabulary.
std::vector<Token> some_tokens(int64_t count, int64_t vocab) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<Token>((i * 7919 + 13) % vocab));
  return tokens;
}

StepCost& operator+=(StepCost& sum, const StepCost& cost) {
  sum.flops += cost.flops;
  sum.weight_bytes += cost.weight_bytes;
  sum.cache_bytes += cost.cache_bytes;
  sum.arena_bytes = std::max(sum.arena_bytes, cost.arena_bytes);
  return sum;
}

}  // namespace

std::string SpeedCase::name() const {
  if (kind == kPrefill) return fmt::format("prefill {}", tokens);
  return fmt::format("decode {} after {}", tokens, depth);
}

double SpeedResult::median() const {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

SpeedTest::SpeedTest(const LoadedModel& loaded, int64_t context)
    : loaded_(loaded),
      limits_{.context = context, .seqs = 1},
      runner_(loaded.model, *loaded.backend, loaded.compute, limits_.step(),
              limits_.pages(cache_layout(*loaded.model))),
      pool_(limits_.pages(runner_.layout())) {}

std::vector<SpeedResult> SpeedTest::run(const std::vector<SpeedCase>& cases, int repeats) {
  std::vector<SpeedResult> results;
  for (const SpeedCase& test : cases) results.push_back({test, {}, cost(test)});
  for (int round = -1; round < repeats; ++round) {
    for (SpeedResult& result : results) {
      const double seconds = time(result.test);
      if (round >= 0) result.seconds.push_back(seconds);
    }
  }
  return results;
}

double SpeedTest::time(const SpeedCase& test) {
  const int64_t vocab = loaded_.model->spec.dims.vocab;
  Sequence sequence(SeqId{0}, some_tokens(test.depth + test.tokens, vocab), runner_.layout(), pool_);
  while (sequence.n_computed < test.depth) {
    advance(sequence, std::min(limits_.step_rows, test.depth - sequence.n_computed));
  }
  const double start = now_seconds();
  while (sequence.n_computed < sequence.size()) {
    const int64_t left = sequence.size() - sequence.n_computed;
    advance(sequence, test.kind == SpeedCase::kDecode ? 1 : std::min(limits_.step_rows, left));
  }
  return now_seconds() - start;
}

// One step; its last token's logits are drawn from, greedily.
void SpeedTest::advance(Sequence& sequence, int64_t tokens) {
  sequence.cache.slide(sequence.n_computed);
  BAIZE_CHECK(sequence.cache.reserve(sequence.n_computed + tokens));
  StepPlan plan;
  plan.add(sequence, tokens, {.draw = true});
  plan.draws.resize(1);
  plan.draws[0].params.temperature = 0;
  runner_.run(plan);
  sequence.n_computed += tokens;
  sequence.n_drawing = 0;  // what was drawn does not matter
}

StepCost SpeedTest::cost(const SpeedCase& test) const {
  StepCost sum;
  for (int64_t done = 0; done < test.tokens;) {
    const int64_t rows = test.kind == SpeedCase::kDecode ? 1 : std::min(limits_.step_rows, test.tokens - done);
    done += rows;
    sum += dry_step(*loaded_.model, *loaded_.backend, loaded_.compute,
                    {.rows = rows, .seqs = 1, .out_rows = 1, .context = test.depth + done});
  }
  return sum;
}

}  // namespace baize::apps
