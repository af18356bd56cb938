#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "unit/expect_error.h"
#include "unit/text_vocabularies.h"

namespace baize {
namespace {

using test::expect_error;

constexpr const char* kMessages = R"([{"role": "user", "content": "Hi"}])";

std::string render(const std::string& source, const ChatInput& input = {.messages = kMessages}) {
  return ChatTemplate({{"default", source}}, {{"bos_token", "<s>"}}).render(input);
}

TEST(ChatTemplate, RendersWithItsVariables) {
  const std::string source =
      "{{ bos_token }}{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}|{{ tools is none }}|"
      "{{ add_generation_prompt }}|{{ enable_thinking }}";
  EXPECT_EQ(render(source), "<s>user:Hi|True|True|");
  EXPECT_EQ(render(source, {.messages = "[]",
                            .tools = "[]",
                            .variables = R"({"enable_thinking": false, "bos_token": "B"})",
                            .add_generation_prompt = false}),
            "B|False|False|False");
}

TEST(ChatTemplate, KeepsTheOrderOfJson) {
  EXPECT_EQ(render("{{ tools[0] | tojson }}", {.messages = "[]", .tools = R"([{"b": 1, "a": {"z": 0, "y": "é"}}])"}),
            R"({"b": 1, "a": {"z": 0, "y": "é"}})");
}

TEST(ChatTemplate, TakesTheTimeFromItsClock) {
  setenv("TZ", "UTC", 1);
  const ChatTemplate chat({{"default", "{{ strftime_now('%d %b %Y %H:%M') }}{{ strftime_now('') }}."}}, {},
                          [] { return std::time_t{86400 * 365}; });
  EXPECT_EQ(chat.render({.messages = "[]"}), "01 Jan 1971 00:00.");
  EXPECT_FALSE(chat.is_plain());
  const ChatTemplate wide({{"default", "{{ strftime_now('%999999d') }}"}}, {});
  expect_error(ErrorKind::kInvalidArgument, {"cannot be formatted"}, [&] { wide.render({.messages = "[]"}); });
}

TEST(ChatTemplate, ChoosesTheTemplateForTools) {
  const std::map<std::string, std::string> sources = {{"default", "D"}, {"tool_use", "T"}};
  const ChatTemplate chat(sources, {});
  EXPECT_EQ(chat.render({.messages = "[]"}), "D");
  EXPECT_EQ(chat.render({.messages = "[]", .tools = "[{}]"}), "T");
  EXPECT_EQ(ChatTemplate({{"default", "D"}}, {}).render({.messages = "[]", .tools = "[{}]"}), "D");
  const ChatTemplate odd({{"rag", "R"}}, {});
  expect_error(ErrorKind::kInvalidArgument, {"'default'", "'rag'"}, [&] { odd.render({.messages = "[]"}); });
}

TEST(ChatTemplate, PlainTemplateForModelsWithoutOne) {
  test::TinyVocab tiny = test::scored_vocab();
  const ChatTemplate chat(Tokenizer::from_gguf(tiny.vocab()));
  EXPECT_TRUE(chat.is_plain());
  EXPECT_EQ(chat.render({.messages = kMessages}), "<s>user: Hi\n\nassistant:");
  EXPECT_EQ(chat.render({.messages = R"([{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}])",
                         .add_generation_prompt = false}),
            "<s>user: ab\n\n");
  tiny.vocab().add_bos = false;
  EXPECT_EQ(ChatTemplate(Tokenizer::from_gguf(tiny.vocab())).render({.messages = "[]"}), "assistant:");
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  expect_error(ErrorKind::kCorrupt, {"'default'", "line 2"}, [] { render("a\n{% if %}"); });
  expect_error(ErrorKind::kInvalidArgument, {"refuses", "roles must alternate"},
               [] { render("{{ raise_exception('roles must alternate') }}"); });
  expect_error(ErrorKind::kInvalidArgument, {"failed", "line 3", "messages[0].text"},
               [] { render("\n\n{{ messages[0].text.value }}"); });
  expect_error(ErrorKind::kInvalidArgument, {"too much work"},
               [] { render("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"); });
  expect_error(ErrorKind::kInvalidArgument, {"the messages are not valid JSON"},
               [] { render("", {.messages = "[}"}); });
  expect_error(ErrorKind::kInvalidArgument, {"the tools"}, [] { render("", {.messages = "[]", .tools = "\xFF"}); });
  expect_error(ErrorKind::kCorrupt, {"UTF-8"}, [] { render("\xFF"); });
}

}  // namespace
}  // namespace baize
