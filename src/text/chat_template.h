// ChatTemplate: renders a conversation into the prompt a model was trained on, by the model's own Jinja template, as
// `apply_chat_template` of the Python library transformers does. Owned by whoever loads a model; immutable, any number
// of threads may render at once.
#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

struct baize_template;

namespace baize {

/// What is rendered, as JSON texts: the order of members is kept, which templates show.
struct ChatInput {
  std::string messages = {};   // an array: [{"role": "user", "content": "..."}, ...]
  std::string tools = {};      // an array of tool schemas; empty for none
  std::string variables = {};  // an object of further variables, such as {"enable_thinking": false}; empty for none
  bool add_generation_prompt = true;
};

class ChatTemplate {
 public:
  /// Seconds since 1970; templates see the local time.
  using Clock = std::function<std::time_t()>;

  /// The templates of a model. One without a template gets a plain one: "role: content" paragraphs. Throws
  /// Error(kCorrupt) with the line if a template does not parse.
  explicit ChatTemplate(const Tokenizer& tokenizer, Clock clock = &ChatTemplate::system_clock);

  /// From sources by name ("default", "tool_use") and variables such as "bos_token".
  ChatTemplate(const std::map<std::string, std::string>& sources, const std::map<std::string, std::string>& constants,
               Clock clock = &ChatTemplate::system_clock);

  /// The prompt; it contains its own begin token where the model wants one, so encode it without adding special tokens
  /// and with SpecialText::kParse. With tools the template "tool_use" is taken where there is one. Throws
  /// Error(kInvalidArgument) if the template refuses the conversation or fails, with its message and line.
  std::string render(const ChatInput& input) const;

  /// Whether the model has no template of its own.
  bool is_plain() const { return plain_; }

  static std::time_t system_clock();

 private:
  struct Free {
    void operator()(baize_template* chat_template) const;
  };
  using Handle = std::unique_ptr<baize_template, Free>;

  std::map<std::string, Handle> templates_;
  bool plain_ = false;
  Clock clock_;
};

}  // namespace baize
