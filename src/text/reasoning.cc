#include "text/reasoning.h"

#include <algorithm>
#include <utility>

namespace baize {

namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Length of the longest end of `text` that begins `mark`.
size_t begun(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

size_t leading_space(std::string_view text) { return std::min(text.find_first_not_of(kSpace), text.size()); }

size_t trailing_space(std::string_view text) {
  const size_t last = text.find_last_not_of(kSpace);
  return last == std::string_view::npos ? text.size() : text.size() - last - 1;
}

}  // namespace

ReasoningSplitter::Start ReasoningSplitter::start_after(std::string_view prompt) {
  prompt.remove_suffix(trailing_space(prompt));
  if (prompt.ends_with(kOpen)) return Start::kThinking;
  return prompt.ends_with(kClose) ? Start::kAnswer : Start::kMayThink;
}

ReasoningSplitter::ReasoningSplitter(Start start)
    : state_(start == Start::kAnswer     ? State::kAnswer
             : start == Start::kMayThink ? State::kUndecided
                                         : State::kThinking) {}

ReasoningSplitter::Parts ReasoningSplitter::push(std::string_view text) {
  Parts parts;
  if (state_ == State::kAnswer) {
    parts.answer = text;
    return parts;
  }
  held_ += text;
  if (state_ == State::kUndecided) {
    const size_t space = leading_space(held_);
    const std::string_view visible = std::string_view(held_).substr(space);
    if (kOpen.starts_with(visible) && visible.size() < kOpen.size()) return parts;
    if (!visible.starts_with(kOpen)) {
      state_ = State::kAnswer;
      parts.answer = std::exchange(held_, {});
      return parts;
    }
    held_.erase(0, space + kOpen.size());
    state_ = State::kThinking;
  }
  if (state_ == State::kThinking) {
    if (!any_) held_.erase(0, leading_space(held_));
    const size_t close = held_.find(kClose);
    if (close == std::string::npos) {
      // The beginning of the mark, and the space before it, wait for what follows.
      size_t keep = begun(held_, kClose);
      keep += trailing_space(std::string_view(held_).substr(0, held_.size() - keep));
      parts.reasoning = held_.substr(0, held_.size() - keep);
      held_.erase(0, parts.reasoning.size());
      any_ = any_ || !parts.reasoning.empty();
      return parts;
    }
    parts.reasoning = held_.substr(0, close);
    parts.reasoning.resize(close - trailing_space(parts.reasoning));
    held_.erase(0, close + kClose.size());
    state_ = State::kBetween;
  }
  held_.erase(0, leading_space(held_));
  if (!held_.empty()) {
    state_ = State::kAnswer;
    parts.answer = std::exchange(held_, {});
  }
  return parts;
}

ReasoningSplitter::Parts ReasoningSplitter::flush() {
  Parts parts;
  if (state_ == State::kThinking) {
    parts.reasoning = std::exchange(held_, {});
  } else if (state_ == State::kUndecided) {
    parts.answer = std::exchange(held_, {});
  }
  return parts;
}

}  // namespace baize
