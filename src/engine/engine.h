// Engine: answers many requests at once, each token by token. submit may be called from any thread. One thread of the
// engine's own computes: it asks the scheduler for a step, runs it, and sends what was drawn to the requests; it sleeps
// when there is nothing to do. What threads share is guarded by one lock, never held while a step runs or an event is
// sent. Prompts that begin like earlier texts (a chat, a common system prompt) compute only what is new.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/stats.h"

namespace baize {

/// What an engine serves at once, and the memory that this takes.
struct EngineLimits {
  int64_t context = 0;        // tokens of the longest sequence
  int64_t step_rows = 512;    // tokens computed in one step: more than that delays the streams that run
  int64_t seqs = 64;          // sequences that run at once; others wait
  int64_t waiting = 1024;     // requests; one more is refused
  int64_t cache_tokens = 0;   // that the cache holds, all sequences together; at least `context`
  int64_t memory = 0;         // bytes of the device that the plan may use, the backend's own included; 0: what is free
  bool measure_step = false;  // step_rows becomes what the backend computes in about EngineHabits::step_seconds

  StepLimits step() const;
  /// Pages of the cache: at least those of one sequence of `context` tokens.
  int64_t pages(const CacheLayout& layout) const;
  SchedulerLimits scheduler(const CacheLayout& layout) const;
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

  /// Throws Error(kInvalidArgument) for parameters out of range, tokens outside the vocabulary or an empty prompt,
  /// Error(kResource) for a prompt longer than the context, and Error(kBusy) when too many requests wait. Later errors
  /// come through the handle.
  RequestHandle submit(GenRequest request, Notify notify = {});

  /// What the engine has done and holds, between two steps. Any thread.
  EngineStats stats() const;

 private:
  struct Active;
  struct Step;
  using Outbox = std::vector<std::pair<std::shared_ptr<RequestState>, Event>>;

  SchedulerLimits scheduler_limits();
  void loop();
  void end_cancelled(Outbox& outbox);
  void complete(Step& step);
  void run(Step& step);
  void run_apart(Step& step);
  void run_part(Step& step, size_t index);
  void score(Step& step) const;
  void settle(Step& step, Outbox& outbox);
  void tell(const Drawn& drawn, Step& step, Outbox& outbox);
  void end_failed(SeqId seq, const Error& error, Outbox& outbox);

  const std::shared_ptr<const Model> model_;
  const EngineLimits limits_;
  Runner runner_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  Scheduler scheduler_;
  std::unordered_map<SeqId, std::unique_ptr<Active>> active_;  // requests that have not ended
  EngineStats stats_;                                          // what was counted since the start

  std::thread thread_;  // last: it uses all the others
};

}  // namespace baize
