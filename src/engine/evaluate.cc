#include "engine/evaluate.h"

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace baize {

namespace {

void check(const Dims& dims, std::span<const Token> ids, std::span<const int64_t> chunks) {
  const auto count = static_cast<int64_t>(ids.size());
  if (ids.empty()) fail(ErrorKind::kInvalidArgument, "no token ids were given");
  for (const Token id : ids) {
    if (id < 0 || id >= dims.vocab) {
      fail(ErrorKind::kInvalidArgument, "token id {} is not in the vocabulary, which has ids 0 to {}", id,
           dims.vocab - 1);
    }
  }
  if (count > dims.context) {
    fail(ErrorKind::kResource, "{} token ids are longer than the context of {} tokens: shorten them or raise --ctx",
         count, dims.context);
  }
  int64_t sum = 0;
  for (const int64_t chunk : chunks) {
    if (chunk < 1 || chunk > count - sum) {
      fail(ErrorKind::kInvalidArgument, "the chunks must be positive and add up to the {} token ids given", count);
    }
    sum += chunk;
  }
  if (sum != count) {
    fail(ErrorKind::kInvalidArgument, "the chunks add up to {} tokens, but {} token ids were given", sum, count);
  }
}

}  // namespace

std::vector<float> evaluate(std::shared_ptr<const Model> model, Backend& backend, Compute compute,
                            std::span<const Token> ids, std::span<const int64_t> chunks) {
  const auto count = static_cast<int64_t>(ids.size());
  const int64_t whole[] = {count};
  if (chunks.empty()) chunks = whole;
  check(model->spec.dims, ids, chunks);

  const int64_t largest = *std::max_element(chunks.begin(), chunks.end());
  const StepLimits limits{.rows = largest, .seqs = 1, .out_rows = largest, .context = count};
  const CacheLayout layout = cache_layout(*model);
  const int64_t pages = layout.pages_for(count, largest);
  Runner runner(std::move(model), backend, compute, limits, pages);
  BlockPool pool(pages);
  Sequence sequence(SeqId{0}, std::vector<Token>(ids.begin(), ids.end()), layout, pool);
  std::vector<float> logits;
  for (const int64_t rows : chunks) {
    sequence.cache.slide(sequence.n_computed);
    BAIZE_CHECK(sequence.cache.reserve(sequence.n_computed + rows));
    StepPlan plan;
    plan.add(sequence, rows, {.scores = rows});
    const StepResult result = runner.run(plan);
    logits.insert(logits.end(), result.scores.begin(), result.scores.end());
    sequence.n_computed += rows;
  }
  return logits;
}

}  // namespace baize
