// ReasoningSplitter: tells the thoughts of a model, "<think> ... </think>" at the beginning of its answer, from the
// answer itself, as the text comes. Marks that appear later are ordinary text. What is given out does not depend on how
// the stream is cut into pieces. Belongs to one thread.
#pragma once

#include <string>
#include <string_view>

namespace baize {

class ReasoningSplitter {
 public:
  static constexpr std::string_view kOpen = "<think>";
  static constexpr std::string_view kClose = "</think>";

  enum class Start {
    kAnswer,    // the model does not think, or the prompt says that it has done so
    kMayThink,  // thoughts, if the answer opens them
    kThinking,  // the prompt has opened them
  };

  /// How an answer to `prompt` begins, for a model whose template knows the marks.
  static Start start_after(std::string_view prompt);

  struct Parts {
    std::string reasoning, answer;
  };

  explicit ReasoningSplitter(Start start);

  Parts push(std::string_view text);
  /// What is still held back, at the end of the stream.
  Parts flush();

  bool thinking() const { return state_ == State::kThinking; }

 private:
  enum class State { kUndecided, kThinking, kBetween, kAnswer };

  State state_;
  std::string held_;
  bool any_ = false;  // thoughts were given out
};

}  // namespace baize
