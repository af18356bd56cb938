// GenRequest and RequestHandle: what enters the engine and how its answer comes back, token by token. No text, no
// model. A request is built by anyone; its handle is used by one thread at a time, never the engine's. A caller either
// waits in next(), or is told by `notify` that poll() has something and never waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/queue.h"
#include "engine/sampling.h"

namespace baize {

struct GenRequest {
  std::vector<Token> prompt;
  SamplingParams sampling;
  std::optional<int64_t> max_tokens;  // absent: until the context is full
  int64_t min_tokens = 0;             // stop_ids cannot be drawn before that many tokens
  std::vector<Token> stop_ids;        // drawing one ends the answer
  int32_t logprobs = -1;              // >= 0: every token comes with its log probability and those of that many others
  bool prompt_logprobs = false;       // the prompt's tokens, too, come with `logprobs`
  int32_t priority = 0;               // higher runs first; equal ones share fairly
};

struct TokenLogprob {
  Token id = 0;
  float logprob = 0;  // natural logarithm of the model's probability: of the raw logits, before penalties and filters
};

/// How likely the model held one token, and its most likely alternatives.
struct TokenLogprobs {
  float logprob = 0;
  std::vector<TokenLogprob> top;  // the most likely tokens, best first (the token itself may be among them)
};

/// Log probabilities of the prompt's tokens from the second on (the first has none); comes before the first Tokens.
struct PromptLogprobs {
  std::vector<TokenLogprobs> tokens;  // [prompt - 1]
};

/// New tokens, in order.
struct Tokens {
  std::vector<Token> ids;
  std::vector<TokenLogprobs> logprobs = {};  // [ids], if asked for
};

enum class FinishReason : uint8_t {
  kStop,     // a stop id was drawn
  kLength,   // max_tokens reached
  kContext,  // the context is full
  kCancelled,
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt: found in the cache, not computed
  int64_t new_tokens = 0;     // the stop id not counted
  double queued_seconds = 0;  // from submit to the first step
};

/// The last event of an answer, unless it failed.
struct Done {
  FinishReason reason = FinishReason::kStop;
  std::optional<Token> stop_id;  // the stop id drawn; it is not among the Tokens
  Usage usage;
};

/// An Error is the last event of an answer that failed.
using Event = std::variant<PromptLogprobs, Tokens, Done, Error>;

/// Called on the engine's thread after each event: must return at once and must not throw.
using Notify = std::function<void()>;

/// What the engine and a handle share.
struct RequestState {
  GenRequest request;
  Notify notify;  // may be empty
  Queue<Event> events;
  std::atomic<bool> cancelled{false};

  void emit(Event event);
};

class RequestHandle {
 public:
  explicit RequestHandle(std::shared_ptr<RequestState> state) : state_(std::move(state)) {}
  RequestHandle(RequestHandle&&) = default;
  RequestHandle& operator=(RequestHandle&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  /// Dropping the handle cancels the request.
  ~RequestHandle() { cancel(); }

  /// Waits for the next event. After Done or an Error there is none: do not call again.
  Event next();
  /// The next event if it is there, without waiting.
  std::optional<Event> poll() { return state_->events.try_pop(); }
  /// Ends the request within one step; next() then yields what was drawn before, and Done.
  void cancel() {
    if (state_ != nullptr) state_->cancelled = true;
  }
  /// Setting it cancels, too: for signal handlers. Lives as long as the handle.
  std::atomic<bool>& cancel_flag() { return state_->cancelled; }

 private:
  std::shared_ptr<RequestState> state_;
};

}  // namespace baize
