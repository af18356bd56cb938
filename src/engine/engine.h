// Engine: answers requests, one after another, each token by token. submit may be called from any thread; one thread of
// the engine's own owns everything that changes (cache, sequences, step), and sleeps when there is nothing to do. A
// prompt that continues the text answered last (a chat) reuses its cache and computes only what is new.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "engine/request.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/stats.h"

namespace baize {

/// What an engine serves at once.
struct EngineLimits {
  int64_t context = 0;      // tokens of the longest sequence
  int64_t step_rows = 512;  // a long prompt is computed in pieces of that size, and a request is cancelled between two

  StepLimits step() const;
  /// Pages that hold one sequence.
  int64_t pages(const CacheLayout& layout) const { return layout.pages_for(context, step_rows); }
};

class Engine {
 public:
  /// Takes its memory at once, or throws Error(kResource). `backend` must outlive the engine.
  Engine(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const EngineLimits& limits);
  /// Cancels what is running or waiting.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  int64_t context() const { return limits_.context; }
  int64_t vocab() const { return model_->spec.dims.vocab; }

  /// Throws Error(kInvalidArgument) for parameters out of range, tokens outside the vocabulary or an empty prompt, and
  /// Error(kResource) for a prompt longer than the context. Later errors come through the handle.
  RequestHandle submit(GenRequest request, Notify notify = {});

  /// What the engine has done and holds, as of the last step. Any thread.
  EngineStats stats() const;

 private:
  void loop();
  template <typename Change>
  void count(const Change& change) {
    const std::lock_guard lock(stats_mutex_);
    change(stats_);
  }
  void serve(RequestState& state);
  bool cancelled(const RequestState& state) const { return state.cancelled || stopping_; }
  void answer(RequestState& state, Done& done);
  int64_t begin_sequence(const GenRequest& request);
  std::optional<Token> compute_next(const RequestState& state, const Sampler& sampler, int64_t new_tokens);

  const std::shared_ptr<const Model> model_;
  const EngineLimits limits_;
  Runner runner_;
  BlockPool pool_;
  std::optional<Sequence> sequence_;  // running, or answered last
  int64_t next_id_ = 0;
  std::atomic<bool> stopping_{false};
  Queue<std::shared_ptr<RequestState>> waiting_;
  mutable std::mutex stats_mutex_;
  EngineStats stats_;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace baize
