// Answer: one answer of the engine on its way to a client: its tokens become text, are cut at stop texts and split into
// thoughts and answer; what a reply needs of them is kept. No JSON. Belongs to the server's thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "text/detokenizer.h"
#include "text/model_text.h"
#include "text/reasoning.h"
#include "text/stop_strings.h"

namespace baize::serve {

/// What came at once.
struct Delta {
  std::string reasoning, content;
  std::vector<Token> ids;
  std::vector<TokenLogprobs> logprobs;  // [ids], or empty

  bool empty() const { return reasoning.empty() && content.empty() && ids.empty(); }
  void append(Delta&& other);
};

class AnswerText {
 public:
  /// `continues`: the answer goes on in the middle of a text.
  AnswerText(const ModelText& text, ReasoningSplitter::Start start, std::vector<std::string> stop, bool continues);

  /// The text that `id` completes is added to `delta`.
  void push(Token id, Delta& delta);
  /// The text still held back.
  void finish(Delta& delta);
  bool stopped() const { return stops_.stopped(); }
  bool thinking() const { return splitter_.thinking(); }

 private:
  void split(const std::string& text, Delta& delta);

  const Tokenizer& tokenizer_;
  Detokenizer detokenizer_;
  StopStrings stops_;
  ReasoningSplitter splitter_;
};

/// One of the answers to a request.
struct Answer {
  Answer(RequestHandle from, AnswerText as) : handle(std::move(from)), text(std::move(as)) {}

  int64_t index = 0;  // in the reply
  size_t prompt = 0;  // of the request's prompts
  RequestHandle handle;
  AnswerText text;
  std::optional<Done> done;
  const char* finish_reason = "";  // once done
  int64_t new_tokens = 0;
  int64_t reasoning_tokens = 0;
  double logprob_sum = 0;
  double last_token = 0;      // base/clock.h: when the newest token came; 0: none yet
  bool prompt_given = false;  // the delta of the prompt, for echo, was given
  int64_t text_offset = 0;    // characters given so far
  Delta whole;                // all of it, when not streamed
};

}  // namespace baize::serve
