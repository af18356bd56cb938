#include "serve/answer.h"

#include <utility>

namespace baize::serve {

void Delta::append(Delta&& other) {
  reasoning += other.reasoning;
  content += other.content;
  ids.insert(ids.end(), other.ids.begin(), other.ids.end());
  for (TokenLogprobs& each : other.logprobs) logprobs.push_back(std::move(each));
}

AnswerText::AnswerText(const ModelText& text, ReasoningSplitter::Start start, std::vector<std::string> stop,
                       bool continues)
    : tokenizer_(text.tokenizer),
      detokenizer_(text.tokenizer, {.continues_text = continues}),
      stops_(std::move(stop)),
      splitter_(start) {}

void AnswerText::push(Token id, Delta& delta) {
  std::string text = detokenizer_.push(id);
  // Some vocabularies hold the marks of thoughts as control tokens, which are no text.
  if (text.empty() && tokenizer_.is_special(id)) {
    const std::string mark = tokenizer_.token_text(id);
    if (mark == ReasoningSplitter::kOpen || mark == ReasoningSplitter::kClose) text = mark;
  }
  split(stops_.push(text), delta);
}

void AnswerText::finish(Delta& delta) {
  split(stops_.push(detokenizer_.flush()), delta);
  split(stops_.flush(), delta);
  ReasoningSplitter::Parts parts = splitter_.flush();
  delta.reasoning += parts.reasoning;
  delta.content += parts.answer;
}

void AnswerText::split(const std::string& text, Delta& delta) {
  if (text.empty()) return;
  ReasoningSplitter::Parts parts = splitter_.push(text);
  delta.reasoning += parts.reasoning;
  delta.content += parts.answer;
}

}  // namespace baize::serve
