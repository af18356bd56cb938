#include "apps/chat.h"

#include <algorithm>

#include "apps/interrupt.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"
#include "text/utf8.h"

namespace baize::apps {

namespace {

void check_utf8(std::string_view text, const char* what) {
  if (const auto at = find_invalid_utf8(text)) {
    fail(ErrorKind::kInvalidArgument, "{} is not valid UTF-8: byte {} is no part of a character", what, *at + 1);
  }
}

double rate(int64_t count, double seconds) { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }

}  // namespace

std::string speed_line(const Answer& answer) {
  const Usage& usage = answer.usage;
  const int64_t computed = usage.prompt_tokens - usage.cached_tokens;
  std::string line = fmt::format("prompt {} tokens", usage.prompt_tokens);
  if (usage.cached_tokens > 0) line += fmt::format(" ({} from cache)", usage.cached_tokens);
  line += fmt::format(", {:.1f} tokens/s; answer {} tokens", rate(computed, answer.first_seconds), usage.new_tokens);
  if (usage.new_tokens > 1) {
    line += fmt::format(", {:.1f} tokens/s", rate(usage.new_tokens - 1, answer.total_seconds - answer.first_seconds));
  }
  return line + fmt::format("; first token after {:.3f} s", answer.first_seconds);
}

Chat::Chat(Engine& engine, const ModelText& text, ChatSettings settings)
    : engine_(engine),
      text_(text),
      settings_(std::move(settings)),
      messages_(std::make_unique<OrderedJson>(OrderedJson::array())) {}

Chat::~Chat() = default;

void Chat::clear() {
  messages_->clear();
  used_ = 0;
}

size_t Chat::messages() const { return messages_->size(); }

std::vector<Token> Chat::make_prompt(const std::string& question) const {
  check_utf8(question, "the prompt");
  check_utf8(settings_.system, "the system message");
  if (completes_only()) return text_.tokenizer.encode(question, true, SpecialText::kParse);

  OrderedJson messages = OrderedJson::array();
  if (!settings_.system.empty()) messages.push_back({{"role", "system"}, {"content", settings_.system}});
  messages.insert(messages.end(), messages_->begin(), messages_->end());
  messages.push_back({{"role", "user"}, {"content", question}});
  OrderedJson variables = OrderedJson::object();
  if (settings_.think.has_value()) variables["enable_thinking"] = *settings_.think;
  for (const auto& [name, value] : settings_.variables) variables[name] = parse_json(value, name);
  ChatInput input;
  input.messages = messages.dump();
  input.variables = variables.dump();
  return text_.tokenizer.encode(text_.chat.render(input), false, SpecialText::kParse);
}

GenRequest Chat::make_request(const std::string& question) const {
  GenRequest request;
  request.prompt = make_prompt(question);
  request.sampling = settings_.sampling;
  request.sampling.seed = settings_.seed.has_value() ? *settings_.seed : random_seed();
  request.max_tokens = settings_.max_tokens;
  request.min_tokens = settings_.min_tokens;
  for (const Token end : text_.end_tokens) {
    if (end < engine_.vocab()) request.stop_ids.push_back(end);
  }
  return request;
}

Answer Chat::ask(const std::string& question, const std::function<void(std::string_view)>& show) {
  const double start = now_seconds();
  RequestHandle handle = engine_.submit(make_request(question));
  Answer answer = stream(handle, show);
  answer.first_seconds -= start;
  answer.total_seconds = now_seconds() - start;
  used_ = answer.usage.prompt_tokens + answer.usage.new_tokens;
  if (!completes_only()) {
    messages_->push_back({{"role", "user"}, {"content", question}});
    messages_->push_back({{"role", "assistant"}, {"content", answer.text}});
  }
  return answer;
}

// `first_seconds` of the result is a point in time.
Answer Chat::stream(RequestHandle& handle, const std::function<void(std::string_view)>& show) const {
  const interrupt::Cancels cancels(handle);
  Detokenizer detokenizer(text_.tokenizer, {.continues_text = completes_only()});
  StopStrings stops(settings_.stop);
  Answer answer;
  const auto give = [&](const std::string& piece) {
    if (piece.empty()) return;
    answer.text += piece;
    show(piece);
  };
  while (true) {
    const Event event = handle.next();
    if (answer.first_seconds == 0) answer.first_seconds = now_seconds();
    if (const Error* error = std::get_if<Error>(&event)) throw *error;
    if (const Done* done = std::get_if<Done>(&event)) {
      answer.reason = stops.stopped() ? FinishReason::kStop : done->reason;
      answer.usage = done->usage;
      break;
    }
    for (const Token id : std::get<Tokens>(event).ids) give(stops.push(detokenizer.push(id)));
    if (stops.stopped()) handle.cancel();
  }
  give(stops.push(detokenizer.flush()));
  give(stops.flush());
  return answer;
}

}  // namespace baize::apps
