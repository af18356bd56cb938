#include "engine/engine.h"

#include <algorithm>
#include <new>

#include "base/check.h"

namespace baize {

namespace {

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
  check_sampling(request.sampling, vocab);
}

}  // namespace

StepLimits EngineLimits::step() const {
  return {.rows = std::min(step_rows, context), .seqs = 1, .out_rows = 1, .context = context};
}

Engine::Engine(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const EngineLimits& limits)
    : model_(std::move(model)),
      limits_(limits),
      runner_(model_, backend, compute, limits.step(), limits.pages(cache_layout(*model_))),
      pool_(limits.pages(runner_.layout())),
      thread_([this] { loop(); }) {}

Engine::~Engine() {
  stopping_ = true;
  waiting_.close();
  thread_.join();
}

RequestHandle Engine::submit(GenRequest request, Notify notify) {
  check_request(request, model_->spec.dims.vocab, limits_.context);
  auto state = std::make_shared<RequestState>();
  state->request = std::move(request);
  state->notify = std::move(notify);
  count([](EngineStats& s) { ++s.waiting; });
  BAIZE_CHECK(waiting_.push(state));
  return RequestHandle(std::move(state));
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(stats_mutex_);
  return stats_;
}

void Engine::loop() {
  count([this](EngineStats& s) { s.pages = pool_.pages(); });
  while (const std::optional<std::shared_ptr<RequestState>> state = waiting_.pop()) serve(**state);
}

void Engine::serve(RequestState& state) {
  count([](EngineStats& s) {
    --s.waiting;
    ++s.running;
    s.pages_cached = 0;
  });
  bool failed = true;
  try {
    Done done;
    answer(state, done);
    failed = false;
    count([&](EngineStats& s) {
      --s.running;
      ++s.finished[static_cast<size_t>(done.reason)];
      s.pages_cached = std::exchange(s.pages_used, 0);
    });
    state.emit(done);
  } catch (const Error& error) {
    sequence_.reset();  // its cache may be spoilt
    state.emit(error);
  } catch (const std::bad_alloc&) {
    sequence_.reset();
    state.emit(Error(ErrorKind::kResource, "out of memory while answering"));
  }
  if (failed) {
    count([](EngineStats& s) {
      --s.running;
      ++s.failed;
      s.pages_used = 0;
    });
  }
  pool_.check();
}

void Engine::answer(RequestState& state, Done& done) {
  const GenRequest& request = state.request;
  done.reason = FinishReason::kCancelled;
  done.usage.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (cancelled(state)) return;
  done.usage.cached_tokens = begin_sequence(request);
  count([&](EngineStats& s) {
    s.prompt_tokens += done.usage.prompt_tokens;
    s.cached_tokens += done.usage.cached_tokens;
  });
  const Sampler sampler(request);
  const int64_t most = request.max_tokens.value_or(limits_.context);
  while (const std::optional<Token> token = compute_next(state, sampler, done.usage.new_tokens)) {
    sequence_->tokens.push_back(*token);
    if (std::find(request.stop_ids.begin(), request.stop_ids.end(), *token) != request.stop_ids.end()) {
      done.stop_id = token;
      done.reason = FinishReason::kStop;
      return;
    }
    state.emit(Tokens{{*token}});
    ++done.usage.new_tokens;
    if (done.usage.new_tokens >= most) {
      done.reason = FinishReason::kLength;
      return;
    }
    if (sequence_->size() > limits_.context) {
      done.reason = FinishReason::kContext;
      return;
    }
  }
}

// Continues the last sequence as far as the prompt repeats it, or starts a new one. Returns the tokens reused.
int64_t Engine::begin_sequence(const GenRequest& request) {
  const int64_t reused = sequence_.has_value() ? reusable_tokens(*sequence_, request.prompt) : 0;
  if (reused == 0) sequence_.emplace(SeqId{next_id_++}, std::vector<Token>(), runner_.layout(), pool_);
  sequence_->tokens = request.prompt;
  sequence_->n_computed = reused;
  sequence_->cache.truncate(reused);
  return reused;
}

// Advances the sequence to its end, in steps, and draws the token behind it; nullopt once cancelled.
std::optional<Token> Engine::compute_next(const RequestState& state, const Sampler& sampler, int64_t new_tokens) {
  Sequence& sequence = *sequence_;
  while (!cancelled(state)) {
    const int64_t left = sequence.size() - sequence.n_computed;
    const int64_t rows = std::min(left, limits_.step_rows);
    const bool last = rows == left;
    sequence.cache.slide(sequence.n_computed);
    BAIZE_CHECK(sequence.cache.reserve(sequence.n_computed + rows));  // the pool holds one sequence of any length
    StepPlan plan;
    plan.add(sequence, rows, last ? StepPlan::Logits::kLast : StepPlan::Logits::kNone);
    if (last) plan.draws.push_back(sampler.row(sequence, new_tokens));
    const StepResult result = runner_.run(plan);
    sequence.n_computed += rows;
    count([&](EngineStats& s) {
      ++s.steps;
      s.rows += rows;
      s.drawn += last;
      s.pages_used = pool_.pages() - pool_.free_pages();
    });
    if (!last) continue;
    if (result.drawn[0] < 0) {
      fail(ErrorKind::kCorrupt,
           "no token can be drawn at position {}: the model's logits are not numbers (a damaged checkpoint?), or every "
           "token is forbidden",
           sequence.size());
    }
    return result.drawn[0];
  }
  return std::nullopt;
}

}  // namespace baize
