// ReasoningSplitter: thoughts and answer, however the stream is cut.
#include "text/reasoning.h"

#include <gtest/gtest.h>

namespace baize {
namespace {

using Start = ReasoningSplitter::Start;

ReasoningSplitter::Parts split_in(const std::string& text, Start start, size_t piece) {
  ReasoningSplitter splitter(start);
  ReasoningSplitter::Parts all;
  const auto add = [&](const ReasoningSplitter::Parts& parts) {
    all.reasoning += parts.reasoning;
    all.answer += parts.answer;
  };
  for (size_t at = 0; at < text.size(); at += piece) add(splitter.push(text.substr(at, piece)));
  add(splitter.flush());
  return all;
}

struct Case {
  Start start;
  const char* text;
  const char* reasoning;
  const char* answer;
};

TEST(Reasoning, SplitsAtTheMarksHoweverTheTextIsCut) {
  const Case cases[] = {
      {Start::kMayThink, "<think>\nI see.\n</think>\n\nYes.", "I see.", "Yes."},
      {Start::kMayThink, " \n<think>a</think>b", "a", "b"},
      {Start::kMayThink, "<think></think>b", "", "b"},
      {Start::kMayThink, "<think>\n\n</think>\n\nb", "", "b"},
      {Start::kMayThink, "plain <think>no</think>", "", "plain <think>no</think>"},
      {Start::kMayThink, "<thinking> is not it", "", "<thinking> is not it"},
      {Start::kMayThink, "<thi", "", "<thi"},
      {Start::kMayThink, "  lead", "", "  lead"},
      {Start::kMayThink, "", "", ""},
      {Start::kThinking, "a b\n\nc </think> d</think>", "a b\n\nc", "d</think>"},
      {Start::kThinking, "never closed </thin", "never closed </thin", ""},
      {Start::kThinking, "a < b </ c", "a < b </ c", ""},
      {Start::kThinking, "a</think>\n\n", "a", ""},
      {Start::kAnswer, "<think>a</think>b", "", "<think>a</think>b"},
  };
  for (const Case& c : cases) {
    for (const size_t piece : {1, 2, 3, 5, 100}) {
      const ReasoningSplitter::Parts parts = split_in(c.text, c.start, piece);
      EXPECT_EQ(parts.reasoning, c.reasoning) << c.text << " in pieces of " << piece;
      EXPECT_EQ(parts.answer, c.answer) << c.text << " in pieces of " << piece;
    }
  }
}

TEST(Reasoning, GivesThoughtsOutAsTheyCome) {
  ReasoningSplitter splitter(Start::kThinking);
  EXPECT_EQ(splitter.push("one ").reasoning, "one");  // the space may stand before the mark
  EXPECT_EQ(splitter.push("two").reasoning, " two");
  EXPECT_TRUE(splitter.thinking());
  EXPECT_EQ(splitter.push("</think>x").answer, "x");
  EXPECT_FALSE(splitter.thinking());
}

TEST(Reasoning, TheEndOfThePromptTellsHowTheAnswerBegins) {
  EXPECT_EQ(ReasoningSplitter::start_after("user: hi\nassistant: <think>\n"), Start::kThinking);
  EXPECT_EQ(ReasoningSplitter::start_after("assistant: <think>\n\n</think>\n\n"), Start::kAnswer);
  EXPECT_EQ(ReasoningSplitter::start_after("<think> is a mark. assistant:"), Start::kMayThink);
  EXPECT_EQ(ReasoningSplitter::start_after(""), Start::kMayThink);
}

}  // namespace
}  // namespace baize
