#include "engine/engine.h"

#include <algorithm>
#include <new>
#include <optional>

#include "base/check.h"
#include "base/clock.h"
#include "engine/logprobs.h"
#include "engine/sampler.h"

namespace baize {

namespace {

constexpr int64_t kLeastOutRows = 16;  // prompts are scored in pieces of at most as many rows

void check_request(const GenRequest& request, int64_t vocab, int64_t context) {
  if (request.prompt.empty()) fail(ErrorKind::kInvalidArgument, "the prompt is empty: give at least one token");
  const auto check_token = [&](Token token, const char* where) {
    if (token >= 0 && token < vocab) return;
    fail(ErrorKind::kInvalidArgument, "{} holds token {}, but the vocabulary has tokens 0 to {}", where, token,
         vocab - 1);
  };
  for (const Token token : request.prompt) check_token(token, "the prompt");
  for (const Token token : request.stop_ids) check_token(token, "the list of stop ids");
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length > context) {
    fail(ErrorKind::kResource, "the prompt has {} tokens, but the context holds {}: shorten it or raise --ctx", length,
         context);
  }
  if (request.max_tokens.has_value() && *request.max_tokens < 1) {
    fail(ErrorKind::kInvalidArgument, "max_tokens must be at least 1, not {}", *request.max_tokens);
  }
  const int64_t most = request.max_tokens.value_or(context);
  if (request.min_tokens < 0 || request.min_tokens > most) {
    fail(ErrorKind::kInvalidArgument, "min_tokens must be from 0 to {} (max_tokens), not {}", most, request.min_tokens);
  }
  if (request.logprobs < -1 || request.logprobs > vocab) {
    fail(ErrorKind::kInvalidArgument, "logprobs must be from 0 to {} (the vocabulary), or -1 for none, not {}", vocab,
         request.logprobs);
  }
  check_sampling(request.sampling, vocab);
}

}  // namespace

StepLimits EngineLimits::step() const {
  const int64_t most_seqs = std::min(seqs, step_rows);
  const int64_t rows = std::min(step_rows, most_seqs * context);
  return {.rows = rows,
          .seqs = most_seqs,
          .out_rows = std::min(rows, std::max(most_seqs, kLeastOutRows)),
          .context = context};
}

int64_t EngineLimits::pages(const CacheLayout& layout) const {
  const int64_t one = layout.pages_for(context, step_rows) + static_cast<int64_t>(layout.groups.size());
  if (cache_tokens <= context) return one;
  // As many sequences as may run, of equal lengths, if there are that many pages' worth of tokens for each.
  const int64_t sharers = std::min(step().seqs, std::max<int64_t>(1, cache_tokens / kMaxBlock));
  const int64_t share = std::min(context, (cache_tokens + sharers - 1) / sharers);
  return std::max(one, sharers * layout.pages_for(share, std::min(share, step_rows)));
}

SchedulerLimits EngineLimits::scheduler(const CacheLayout& layout) const {
  const StepLimits most = step();
  return {.context = context,
          .rows = most.rows,
          .out_rows = most.out_rows,
          .seqs = most.seqs,
          .waiting = waiting,
          .pages = pages(layout)};
}

/// A request that has not ended.
struct Engine::Active {
  explicit Active(std::shared_ptr<RequestState> s) : state(std::move(s)), sampler(state->request) {}

  std::shared_ptr<RequestState> state;
  Sampler sampler;
  double submitted = now_seconds();
  double queued = -1;              // seconds until its first step; < 0: still waiting
  PromptLogprobs prompt_logprobs;  // as far as computed
  bool began = false;              // an event was sent

  const GenRequest& request() const { return state->request; }
};

/// A step on its way: planned, run, settled.
struct Engine::Step {
  StepPlan plan;
  std::vector<Active*> active;  // [parts]
  StepResult result;
  std::vector<std::optional<Error>> errors;  // [parts], where computing failed; or none at all
  std::vector<TokenLogprobs> drawn;          // [draw_rows], of those that were asked for
};

Engine::Engine(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const EngineLimits& limits)
    : model_(std::move(model)),
      limits_(limits),
      runner_(model_, backend, compute, limits.step(), limits.pages(cache_layout(*model_))),
      scheduler_(runner_.layout(), scheduler_limits()),
      thread_([this] { loop(); }) {}

SchedulerLimits Engine::scheduler_limits() {
  SchedulerLimits most = limits_.scheduler(runner_.layout());
  const int64_t suited = runner_.warm_up();
  if (limits_.measure_step) most.rows = suited;
  return most;
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

RequestHandle Engine::submit(GenRequest request, Notify notify) {
  check_request(request, model_->spec.dims.vocab, limits_.context);
  auto state = std::make_shared<RequestState>();
  state->request = std::move(request);
  state->notify = std::move(notify);
  auto active = std::make_unique<Active>(state);
  {
    const std::lock_guard lock(mutex_);
    active_[scheduler_.add(state->request)] = std::move(active);
  }
  wake_.notify_one();
  return RequestHandle(std::move(state));
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  const BlockPool& pool = scheduler_.pool();
  EngineStats stats = stats_;
  stats.running = scheduler_.running();
  stats.waiting = scheduler_.waiting();
  stats.pages = pool.pages();
  stats.pages_cached = pool.idle_pages();
  stats.pages_used = pool.pages() - pool.free_pages() - pool.idle_pages();
  stats.preemptions = scheduler_.preemptions();
  stats.prompt_tokens = scheduler_.prompt_tokens();
  stats.cached_tokens = scheduler_.cached_tokens();
  return stats;
}

void Engine::loop() {
  const auto send = [](Outbox& outbox) {
    for (auto& [state, event] : outbox) state->emit(std::move(event));
    outbox.clear();
  };
  Outbox outbox;
  std::unique_lock lock(mutex_);
  while (true) {
    if (scheduler_.idle()) {
#ifndef NDEBUG
      scheduler_.check();  // walks the whole cache
#endif
      if (stopping_) return;
      wake_.wait(lock, [&] { return stopping_ || !scheduler_.idle(); });
    }
    end_cancelled(outbox);
    Step step{.plan = scheduler_.schedule(), .active = {}, .result = {}, .errors = {}, .drawn = {}};
    BAIZE_CHECK(step.plan.empty() == scheduler_.idle());
    if (!step.plan.empty()) {
      complete(step);
      lock.unlock();
      run(step);
      score(step);
      lock.lock();
      settle(step, outbox);
    }
    lock.unlock();
    send(outbox);
    lock.lock();
  }
}

void Engine::end_cancelled(Outbox& outbox) {
  for (auto at = active_.begin(); at != active_.end();) {
    Active& active = *at->second;
    if (!stopping_ && !active.state->cancelled) {
      ++at;
      continue;
    }
    Done done{.reason = FinishReason::kCancelled, .stop_id = {}, .usage = scheduler_.end(at->first)};
    done.usage.queued_seconds = active.queued < 0 ? now_seconds() - active.submitted : active.queued;
    ++stats_.finished[static_cast<size_t>(done.reason)];
    outbox.emplace_back(active.state, done);
    at = active_.erase(at);
  }
}

// Adds to the plan what the scheduler does not know: how each token is drawn, and whose probabilities are wanted.
void Engine::complete(Step& step) {
  const double now = now_seconds();
  step.plan.draws.resize(step.plan.draw_rows.size());
  for (const StepPart& part : step.plan.parts) {
    Active& active = *active_.at(part.seq);
    step.active.push_back(&active);
    if (active.queued < 0) active.queued = now - active.submitted;
    if (part.draw < 0) continue;
    step.plan.draws[static_cast<size_t>(part.draw)] = active.sampler.row(scheduler_.sequence(part.seq));
    if (active.request().logprobs >= 0) step.plan.raw_draws.push_back(static_cast<int32_t>(part.draw));
  }
}

// ---- without the lock ----

void Engine::run(Step& step) {
  try {
    step.result = runner_.run(step.plan);
  } catch (const std::exception&) {
    run_apart(step);
  }
}

// A step failed: computes its parts one by one, so that only those fail that cannot be computed alone.
void Engine::run_apart(Step& step) {
  const auto width = static_cast<size_t>(vocab());
  step.result.drawn.assign(step.plan.draw_rows.size(), -1);
  step.result.scores.resize(step.plan.score_rows.size() * width);
  step.result.raw.resize(step.plan.raw_draws.size() * width);
  step.errors.resize(step.plan.parts.size());
  for (size_t i = 0; i < step.plan.parts.size(); ++i) {
    try {
      run_part(step, i);
    } catch (const Error& error) {
      step.errors[i] = error;
    } catch (const std::bad_alloc&) {
      step.errors[i] = Error(ErrorKind::kResource, "out of memory while answering");
    }
  }
}

void Engine::run_part(Step& step, size_t index) {
  const StepPart& part = step.plan.parts[index];
  StepPlan alone = step.plan.only(index);
  if (index == 0) alone.copies = step.plan.copies;
  const auto raw = std::find(step.plan.raw_draws.begin(), step.plan.raw_draws.end(), part.draw);
  if (raw != step.plan.raw_draws.end()) alone.raw_draws = {0};
  const StepResult result = runner_.run(alone);
  const auto put = [&](const std::vector<float>& from, std::vector<float>& to, int64_t row) {
    std::copy(from.begin(), from.end(), to.begin() + row * vocab());
  };
  if (part.draw >= 0) step.result.drawn[static_cast<size_t>(part.draw)] = result.drawn[0];
  put(result.scores, step.result.scores, part.first_score);
  put(result.raw, step.result.raw, raw - step.plan.raw_draws.begin());
}

// Turns the logits handed out into log probabilities.
void Engine::score(Step& step) const {
  const auto width = static_cast<size_t>(vocab());
  const auto row = [&](const std::vector<float>& logits, int64_t index) {
    return std::span(logits).subspan(static_cast<size_t>(index) * width, width);
  };
  step.drawn.resize(step.plan.draw_rows.size());
  int64_t raw = 0;
  for (size_t i = 0; i < step.plan.parts.size(); ++i) {
    const StepPart& part = step.plan.parts[i];
    Active& active = *step.active[i];
    const GenRequest& request = active.request();
    const int64_t first = part.first + part.rows - (part.draw >= 0 ? 1 : 0) - part.scores;  // the row of its token
    for (int64_t k = 0; k < part.scores; ++k) {
      active.prompt_logprobs.tokens.push_back(token_logprobs(row(step.result.scores, part.first_score + k),
                                                             request.prompt[static_cast<size_t>(first + k + 1)],
                                                             request.logprobs));
    }
    if (part.draw < 0 || request.logprobs < 0) continue;
    const std::span<const float> logits = row(step.result.raw, raw++);
    const Token token = step.result.drawn[static_cast<size_t>(part.draw)];
    if (token >= 0) step.drawn[static_cast<size_t>(part.draw)] = token_logprobs(logits, token, request.logprobs);
  }
}

// ---- what came of it ----

void Engine::settle(Step& step, Outbox& outbox) {
  ++stats_.steps;
  stats_.rows += step.plan.rows();
  for (size_t i = 0; i < step.errors.size(); ++i) {
    if (!step.errors[i].has_value()) continue;
    const SeqId seq = step.plan.parts[i].seq;
    scheduler_.end(seq, true);
    end_failed(seq, *step.errors[i], outbox);
  }
  for (const Drawn& drawn : scheduler_.commit(step.plan, step.result.drawn)) tell(drawn, step, outbox);
}

void Engine::tell(const Drawn& drawn, Step& step, Outbox& outbox) {
  Active& active = *active_.at(drawn.seq);
  if (drawn.token < 0) {
    const int64_t position = drawn.usage.prompt_tokens + drawn.usage.new_tokens;
    const Error error(ErrorKind::kCorrupt,
                      fmt::format("no token can be drawn at position {}: the model's logits are not numbers (a damaged "
                                  "checkpoint?), or every token is forbidden",
                                  position));
    return end_failed(drawn.seq, error, outbox);
  }
  ++stats_.drawn;
  if (!active.began) {
    active.began = true;
    if (active.request().prompt_logprobs) outbox.emplace_back(active.state, std::move(active.prompt_logprobs));
  }
  const bool stopped = drawn.end == FinishReason::kStop;
  if (!stopped) {
    Tokens tokens{.ids = {drawn.token}, .logprobs = {}};
    if (active.request().logprobs >= 0)
      tokens.logprobs.push_back(std::move(step.drawn[static_cast<size_t>(drawn.draw)]));
    outbox.emplace_back(active.state, std::move(tokens));
  }
  if (!drawn.end) return;
  Done done{.reason = *drawn.end, .stop_id = {}, .usage = drawn.usage};
  if (stopped) done.stop_id = drawn.token;
  done.usage.queued_seconds = active.queued;
  ++stats_.finished[static_cast<size_t>(done.reason)];
  outbox.emplace_back(active.state, done);
  active_.erase(drawn.seq);
}

void Engine::end_failed(SeqId seq, const Error& error, Outbox& outbox) {
  ++stats_.failed;
  outbox.emplace_back(active_.at(seq)->state, error);
  active_.erase(seq);
}

}  // namespace baize
