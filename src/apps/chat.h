// Chat: a conversation with a model: keeps the messages, makes each prompt, asks the engine and turns its tokens into
// text as they come. With a model that has no chat template every question is a text to continue. Main thread.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/chat_settings.h"
#include "apps/model_text.h"
#include "engine/engine.h"

namespace baize::apps {

struct Answer {
  std::string text;
  FinishReason reason = FinishReason::kStop;  // kCancelled: Ctrl-C
  Usage usage;
  double first_seconds = 0;  // from the question to the first token
  double total_seconds = 0;
};

/// "prompt 31 tokens (12 from cache), 812 tokens/s; answer 64 tokens, 80.3 tokens/s; first token after 0.04 s"
std::string speed_line(const Answer& answer);

class Chat {
 public:
  /// The engine and the text must outlive it.
  Chat(Engine& engine, const ModelText& text, ChatSettings settings);
  ~Chat();

  /// Calls `show` with every piece of the answer. Ctrl-C (apps/interrupt.h) ends it early. After an Error the
  /// conversation is as before. Throws the errors of ChatTemplate, Tokenizer and Engine.
  Answer ask(const std::string& question, const std::function<void(std::string_view)>& show);

  /// Forgets the conversation.
  void clear();

  bool completes_only() const { return text_.tokenizer.chat_templates().empty(); }
  size_t messages() const;
  int64_t context() const { return engine_.context(); }
  int64_t context_used() const { return used_; }  // tokens, at the end of the last answer
  ChatSettings& settings() { return settings_; }
  const ChatSettings& settings() const { return settings_; }

 private:
  std::vector<Token> make_prompt(const std::string& question) const;
  GenRequest make_request(const std::string& question) const;
  Answer stream(RequestHandle& handle, const std::function<void(std::string_view)>& show) const;

  Engine& engine_;
  const ModelText& text_;
  ChatSettings settings_;
  std::unique_ptr<nlohmann::ordered_json> messages_;  // without the system message
  int64_t used_ = 0;
};

}  // namespace baize::apps
