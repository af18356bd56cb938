// AnswerFormat: how a dialect writes answers: whole, or as server-sent events. One subclass a dialect; the generation
// that drives it knows no JSON. One object a request; the server's thread.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "serve/answer.h"
#include "serve/api_error.h"
#include "serve/params.h"

namespace baize::serve {

/// The sums over all answers of a request.
struct TotalUsage {
  int64_t prompt_tokens = 0, cached_tokens = 0, new_tokens = 0, reasoning_tokens = 0;
};

class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;

  /// The events before the first token of an answer.
  virtual void begin(std::string& out, const Answer& answer) = 0;
  virtual void delta(std::string& out, Answer& answer, const Delta& delta) = 0;
  virtual void finish(std::string& out, const Answer& answer) = 0;
  /// The events behind all answers.
  virtual void end(std::string& out, const TotalUsage& usage) = 0;
  /// An answer that fails after its beginning.
  virtual void fail(std::string& out, const ApiError& error) = 0;

  /// The body of a reply that is not streamed.
  virtual void whole(std::string& out, std::span<Answer* const> answers, const TotalUsage& usage) = 0;
};

/// What a reply tells of its request.
struct FormatInfo {
  std::string model;
  const Tokenizer* tokenizer = nullptr;
  std::vector<std::vector<Token>> prompts;
  bool include_usage = false, logprobs = false, return_token_ids = false, thinks = false;
};

/// /v1/chat/completions and /v1/completions.
std::unique_ptr<AnswerFormat> chat_format(FormatInfo info);
std::unique_ptr<AnswerFormat> completion_format(FormatInfo info);

}  // namespace baize::serve
