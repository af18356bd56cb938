// Engine: answers requests, one after another, each token by token. submit may be called from any thread; one thread of
// the engine's own owns everything that changes (cache, sequences, step), and sleeps when there is nothing to do. A
// prompt that continues the text answered last (a chat) reuses its cache and computes only what is new.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "engine/request.h"
#include "engine/runner.h"
#include "engine/sampler.h"

namespace baize {

/// Rows of the longest step. A long prompt is computed in pieces of that size, and a request is cancelled between two.
inline constexpr int64_t kStepRows = 512;

class Engine {
 public:
  /// Takes its memory at once. `context`: tokens of the longest sequence. `backend` must outlive the engine.
  Engine(std::shared_ptr<const Model> model, Backend& backend, Compute compute, int64_t context);
  /// Cancels what is running or waiting.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  int64_t context() const { return context_; }

  /// Throws Error(kInvalidArgument) for parameters out of range, tokens outside the vocabulary or an empty prompt, and
  /// Error(kResource) for a prompt longer than the context. Later errors come through the handle.
  RequestHandle submit(GenRequest request);

  /// What the largest step, and the pages of one sequence of `context` tokens, need of memory.
  static StepLimits limits(int64_t context);
  static int64_t pages(const CacheLayout& layout, int64_t context);

 private:
  void loop();
  void serve(RequestState& state);
  void check_cancelled(const RequestState& state) const;
  void answer(RequestState& state);
  void begin_sequence(const GenRequest& request, Usage& usage);
  Token compute_next(const RequestState& state, const Sampler& sampler, int64_t new_tokens);

  const std::shared_ptr<const Model> model_;
  const int64_t context_;
  Runner runner_;
  BlockPool pool_;
  std::optional<Sequence> sequence_;  // running, or answered last
  int64_t next_id_ = 0;
  std::atomic<bool> stopping_{false};
  Queue<std::shared_ptr<RequestState>> waiting_;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace baize
