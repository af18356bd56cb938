// Any text as a chat template, and any text as its messages, gives a prompt or one Error; never a crash or a hang.
// The input is the template; behind a zero byte, if there is one, the messages.
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baize;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string source(input.substr(0, zero));
  std::string messages = R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "123456789", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
    {"role": "tool", "content": "1"}, {"role": "user", "content": [{"type": "text", "text": "é"}]}])";
  if (zero != std::string_view::npos) messages = input.substr(zero + 1);
  const std::string tools = R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])";
  try {
    const ChatTemplate chat_template({{"default", source}}, {{"bos_token", "<s>"}, {"eos_token", "</s>"}},
                                     [] { return 0; });
    for (const bool with_tools : {false, true}) {
      try {
        chat_template.render({.messages = messages,
                              .tools = with_tools ? tools : "",
                              .variables = with_tools ? R"({"enable_thinking": false})" : "",
                              .add_generation_prompt = with_tools});
      } catch (const Error&) {
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
