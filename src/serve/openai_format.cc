// OpenAI's two dialects. Events are written for every token, so what never changes in them is made once.
#include <fmt/format.h>

#include <cmath>
#include <ctime>

#include "base/random.h"
#include "serve/answer_format.h"
#include "serve/json_text.h"
#include "text/utf8.h"

namespace baize::serve {

namespace {

auto to(std::string& out) { return std::back_inserter(out); }

// A log probability; one that does not exist, for the first token of a prompt, is null.
void append_value(std::string& out, float logprob) {
  std::isnan(logprob) ? static_cast<void>(out += "null") : append_logprob(out, logprob);
}

// The text of one token as people know it; control tokens as they are spelt.
std::string token_bytes(const Tokenizer& tokenizer, Token id) {
  return tokenizer.is_special(id) ? tokenizer.token_text(id) : tokenizer.piece(id);
}

// {"token": "a", "logprob": -0.1, "bytes": [97]}, without the closing brace.
void append_token(std::string& out, const Tokenizer& tokenizer, Token id, float logprob) {
  const std::string bytes = token_bytes(tokenizer, id);
  out += "{\"token\":";
  append_json(out, bytes);
  out += ",\"logprob\":";
  append_value(out, logprob);
  out += ",\"bytes\":[";
  for (size_t i = 0; i < bytes.size(); ++i) {
    fmt::format_to(to(out), "{}{}", i > 0 ? "," : "", static_cast<unsigned char>(bytes[i]));
  }
  out += ']';
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

// What both dialects share: ids, events, usage.
class OpenAiFormat : public AnswerFormat {
 public:
  OpenAiFormat(FormatInfo info, const char* id_stem, const char* event_object, const char* whole_object)
      : info_(std::move(info)) {
    const std::string id = fmt::format("{}-{:014x}{:014x}", id_stem, random_seed(), random_seed());
    const auto head = [&](const char* object) {
      std::string out =
          fmt::format("{{\"id\":\"{}\",\"object\":\"{}\",\"created\":{},\"model\":", id, object, std::time(nullptr));
      append_json(out, info_.model);
      return out;
    };
    event_head_ = "data: " + head(event_object);
    whole_head_ = head(whole_object);
  }

  void end(std::string& out, const TotalUsage& usage) override {
    if (info_.include_usage) {
      out += event_head_;
      out += ",\"choices\":[],\"usage\":";
      append_usage(out, usage);
      out += "}\n\n";
    }
    out += "data: [DONE]\n\n";
  }

  void fail(std::string& out, const ApiError& error) override {
    out += "data: ";
    out += error_json(error);
    out += "\n\n";
  }

  void whole(std::string& out, std::span<Answer* const> answers, const TotalUsage& usage) override {
    out += whole_head_;
    out += ",\"choices\":[";
    for (size_t i = 0; i < answers.size(); ++i) {
      if (i > 0) out += ',';
      append_choice(out, *answers[i]);
    }
    out += "],\"usage\":";
    append_usage(out, usage);
    append_whole_end(out);
    out += '}';
  }

 protected:
  virtual void append_choice(std::string& out, Answer& answer) = 0;
  virtual void append_whole_end(std::string&) {}

  void begin_event(std::string& out, const Answer& answer) const {
    out += event_head_;
    fmt::format_to(to(out), ",\"choices\":[{{\"index\":{}", answer.index);
  }
  void end_event(std::string& out, const char* reason) const {
    append_reason(out, reason);
    out += "}]";
    if (info_.include_usage) out += ",\"usage\":null";
    out += "}\n\n";
  }
  static void append_reason(std::string& out, const char* reason) {
    if (*reason == '\0') {
      out += ",\"finish_reason\":null";
    } else {
      fmt::format_to(to(out), ",\"finish_reason\":\"{}\"", reason);
    }
  }
  void append_token_ids(std::string& out, const Delta& delta) const {
    if (!info_.return_token_ids) return;
    out += ",\"token_ids\":";
    append_ids(out, delta.ids.data(), delta.ids.size());
  }
  void append_prompt_ids(std::string& out, size_t prompt) const {
    if (!info_.return_token_ids) return;
    out += ",\"prompt_token_ids\":";
    append_ids(out, info_.prompts[prompt].data(), info_.prompts[prompt].size());
  }

  const FormatInfo info_;

 private:
  void append_usage(std::string& out, const TotalUsage& usage) const {
    fmt::format_to(to(out),
                   "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                   "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}",
                   usage.prompt_tokens, usage.new_tokens, usage.prompt_tokens + usage.new_tokens, usage.cached_tokens);
    if (info_.thinks) {
      fmt::format_to(to(out), ",\"completion_tokens_details\":{{\"reasoning_tokens\":{}}}", usage.reasoning_tokens);
    }
    out += '}';
  }

  std::string event_head_, whole_head_;  // up to the choices
};

class ChatFormat final : public OpenAiFormat {
 public:
  explicit ChatFormat(FormatInfo info)
      : OpenAiFormat(std::move(info), "chatcmpl", "chat.completion.chunk", "chat.completion") {}

  void begin(std::string& out, const Answer& answer) override {
    begin_event(out, answer);
    out += ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null";
    append_prompt_ids(out, answer.prompt);
    end_event(out, "");
  }

  void delta(std::string& out, Answer& answer, const Delta& delta) override {
    begin_event(out, answer);
    out += ",\"delta\":{";
    if (!delta.reasoning.empty()) {
      out += "\"reasoning_content\":\"";
      append_escaped(out, delta.reasoning);
      out += '"';
    }
    if (!delta.content.empty()) {
      out += delta.reasoning.empty() ? "\"content\":\"" : ",\"content\":\"";
      append_escaped(out, delta.content);
      out += '"';
    }
    out += "},\"logprobs\":";
    append_logprobs(out, delta);
    append_token_ids(out, delta);
    end_event(out, "");
  }

  void finish(std::string& out, const Answer& answer) override {
    begin_event(out, answer);
    out += ",\"delta\":{},\"logprobs\":null";
    end_event(out, answer.finish_reason);
  }

 private:
  void append_choice(std::string& out, Answer& answer) override {
    fmt::format_to(to(out), "{{\"index\":{},\"message\":{{\"role\":\"assistant\",\"content\":", answer.index);
    append_json(out, answer.whole.content);
    out += ",\"refusal\":null";
    if (!answer.whole.reasoning.empty()) {
      out += ",\"reasoning_content\":";
      append_json(out, answer.whole.reasoning);
    }
    out += "},\"logprobs\":";
    append_logprobs(out, answer.whole);
    append_token_ids(out, answer.whole);
    append_reason(out, answer.finish_reason);
    out += '}';
  }
  void append_whole_end(std::string& out) override { append_prompt_ids(out, 0); }

  void append_logprobs(std::string& out, const Delta& delta) const {
    if (!info_.logprobs || delta.logprobs.empty()) {
      out += "null";
      return;
    }
    out += "{\"content\":[";
    for (size_t i = 0; i < delta.logprobs.size(); ++i) {
      if (i > 0) out += ',';
      append_token(out, *info_.tokenizer, delta.ids[i], delta.logprobs[i].logprob);
      out += ",\"top_logprobs\":[";
      const std::vector<TokenLogprob>& top = delta.logprobs[i].top;
      for (size_t k = 0; k < top.size(); ++k) {
        if (k > 0) out += ',';
        append_token(out, *info_.tokenizer, top[k].id, top[k].logprob);
        out += '}';
      }
      out += "]}";
    }
    out += "],\"refusal\":null}";
  }
};

class CompletionFormat final : public OpenAiFormat {
 public:
  explicit CompletionFormat(FormatInfo info)
      : OpenAiFormat(std::move(info), "cmpl", "text_completion", "text_completion") {}

  void begin(std::string& out, const Answer& answer) override {
    if (!info_.return_token_ids) return;
    begin_event(out, answer);
    out += ",\"text\":\"\",\"logprobs\":null";
    append_prompt_ids(out, answer.prompt);
    end_event(out, "");
  }

  void delta(std::string& out, Answer& answer, const Delta& delta) override {
    begin_event(out, answer);
    out += ",\"text\":\"";
    append_escaped(out, delta.content);
    out += "\",\"logprobs\":";
    append_logprobs(out, answer, delta);
    append_token_ids(out, delta);
    end_event(out, "");
  }

  void finish(std::string& out, const Answer& answer) override {
    begin_event(out, answer);
    out += ",\"text\":\"\",\"logprobs\":null";
    end_event(out, answer.finish_reason);
  }

 private:
  void append_choice(std::string& out, Answer& answer) override {
    fmt::format_to(to(out), "{{\"index\":{},\"text\":", answer.index);
    append_json(out, answer.whole.content);
    out += ",\"logprobs\":";
    append_logprobs(out, answer, answer.whole);
    append_token_ids(out, answer.whole);
    append_prompt_ids(out, answer.prompt);
    append_reason(out, answer.finish_reason);
    out += '}';
  }

  // A token that is no text by itself, as OpenAI shows it: "bytes:\xe2\x80".
  void append_spelling(std::string& out, Token id) const {
    const std::string bytes = token_bytes(*info_.tokenizer, id);
    if (!find_invalid_utf8(bytes)) return append_json(out, bytes);
    std::string spelt = "bytes:";
    for (const char c : bytes) fmt::format_to(to(spelt), "\\x{:02x}", static_cast<unsigned char>(c));
    append_json(out, spelt);
  }

  void append_logprobs(std::string& out, Answer& answer, const Delta& delta) const {
    if (!info_.logprobs || delta.logprobs.empty()) {
      out += "null";
      return;
    }
    std::string tokens, values, tops, offsets;
    for (size_t i = 0; i < delta.logprobs.size(); ++i) {
      const char* comma = i > 0 ? "," : "";
      tokens += comma;
      append_spelling(tokens, delta.ids[i]);
      values += comma;
      append_value(values, delta.logprobs[i].logprob);
      fmt::format_to(to(offsets), "{}{}", comma, answer.text_offset);
      answer.text_offset += count_characters(token_bytes(*info_.tokenizer, delta.ids[i]));
      tops += comma;
      if (std::isnan(delta.logprobs[i].logprob)) {
        tops += "null";
        continue;
      }
      tops += '{';
      for (size_t k = 0; k < delta.logprobs[i].top.size(); ++k) {
        if (k > 0) tops += ',';
        append_spelling(tops, delta.logprobs[i].top[k].id);
        tops += ':';
        append_value(tops, delta.logprobs[i].top[k].logprob);
      }
      tops += '}';
    }
    fmt::format_to(to(out), "{{\"tokens\":[{}],\"token_logprobs\":[{}],\"top_logprobs\":[{}],\"text_offset\":[{}]}}",
                   tokens, values, tops, offsets);
  }
};

}  // namespace

std::unique_ptr<AnswerFormat> chat_format(FormatInfo info) { return std::make_unique<ChatFormat>(std::move(info)); }

std::unique_ptr<AnswerFormat> completion_format(FormatInfo info) {
  return std::make_unique<CompletionFormat>(std::move(info));
}

}  // namespace baize::serve
