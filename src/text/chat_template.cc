#include "text/chat_template.h"

#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "text/bridge.h"

namespace baize {
namespace {

/// What a model without a template gets: each message as a paragraph "role: content".
constexpr const char* kPlain = R"({{ bos_token }}
{%- for message in messages %}
  {{- message.role }}:{{ ' ' }}
  {%- if message.content is string %}
    {{- message.content }}
  {%- else %}
    {%- for part in message.content %}
      {{- part.text }}
    {%- endfor %}
  {%- endif %}
  {{- '\n\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- 'assistant:' }}
{%- endif %})";

/// The constants of the plain template: it begins with bos where the vocabulary does.
std::map<std::string, std::string> constants_of(const Tokenizer& tokenizer) {
  auto constants = tokenizer.special_tokens();
  if (tokenizer.chat_templates().empty() && !tokenizer.adds_bos()) constants.erase("bos_token");
  return constants;
}

/// baize_template_input::format_time; `context` is a std::tm.
size_t format_time(void* context, baize_text_view format, char* out, size_t capacity) noexcept {
  try {
    // strftime gives 0 both for an empty result and for one that does not fit; a last character tells them apart.
    const std::string marked = std::string(format.data, format.size) + "!";
    const size_t size = std::strftime(out, capacity, marked.c_str(), static_cast<const std::tm*>(context));
    return size == 0 ? capacity + 1 : size - 1;
  } catch (const std::bad_alloc&) {
    return capacity + 1;
  }
}

}  // namespace

void ChatTemplate::Free::operator()(baize_template* chat_template) const { baize_template_free(chat_template); }

std::time_t ChatTemplate::system_clock() { return std::time(nullptr); }

ChatTemplate::ChatTemplate(const Tokenizer& tokenizer, Clock clock)
    : ChatTemplate(tokenizer.chat_templates(), constants_of(tokenizer), std::move(clock)) {}

ChatTemplate::ChatTemplate(const std::map<std::string, std::string>& sources,
                           const std::map<std::string, std::string>& constants, Clock clock)
    : plain_(sources.empty()), clock_(std::move(clock)) {
  const std::string constants_json = Json(constants).dump(-1, ' ', false, Json::error_handler_t::replace);
  const auto add = [&](const std::string& name, std::string_view source) {
    baize_template* handle = nullptr;
    bridge::Buffer error;
    const auto status = baize_template_new(bridge::view(source), bridge::view(constants_json), &handle, error.out());
    if (status != BAIZE_TEXT_OK) {
      fail(ErrorKind::kCorrupt, "the model's chat template '{}' does not parse: {}", name, error.text());
    }
    templates_.emplace(name, Handle(handle));
  };
  if (plain_) add("default", kPlain);
  for (const auto& [name, source] : sources) add(name, source);
}

std::string ChatTemplate::render(const ChatInput& input) const {
  const bool wants_tools = !input.tools.empty() && templates_.contains("tool_use");
  const auto chosen = templates_.find(wants_tools ? "tool_use" : "default");
  if (chosen == templates_.end()) {
    fail(ErrorKind::kInvalidArgument, "the model has no chat template named 'default', only '{}'",
         templates_.begin()->first);
  }
  const std::time_t now = clock_();
  std::tm local{};
  localtime_r(&now, &local);
  const baize_template_input raw = {.messages = bridge::view(input.messages),
                                    .tools = bridge::view(input.tools),
                                    .variables = bridge::view(input.variables),
                                    .add_generation_prompt = input.add_generation_prompt,
                                    .format_time = &format_time,
                                    .context = &local};
  bridge::Buffer text, error;
  switch (baize_template_render(chosen->second.get(), &raw, text.out(), error.out())) {
    case BAIZE_TEXT_OK:
      return std::string(text.text());
    case BAIZE_TEXT_REFUSED:
      fail(ErrorKind::kInvalidArgument, "the model's chat template refuses this conversation: {}", error.text());
    default:
      fail(ErrorKind::kInvalidArgument, "the model's chat template failed: {}", error.text());
  }
}

}  // namespace baize
