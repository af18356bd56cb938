#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace baize {
namespace {

std::string message_of(std::string_view text) {
  try {
    parse_json(text, "config.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kCorrupt);
    return e.what();
  }
  return "";
}

std::string nested(int levels) {
  return std::string(static_cast<size_t>(levels), '[') + std::string(static_cast<size_t>(levels), ']');
}

TEST(Json, ParsesValues) {
  const Json value = parse_json(R"({"a": [1, 2.5, null, "\u00e9"], "b": true})", "x");
  EXPECT_EQ(value["a"][0], 1);
  EXPECT_EQ(value["a"][1], 2.5);
  EXPECT_TRUE(value["a"][2].is_null());
  EXPECT_EQ(value["a"][3], "é");
  EXPECT_EQ(value["b"], true);
}

TEST(Json, MessageNamesTheSourceAndTheByte) {
  EXPECT_THAT(message_of(R"({"a": ])"),
              testing::AllOf(testing::StartsWith("config.json: not valid JSON"), testing::HasSubstr("column 7")));
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "nul", "1 2", "{'a': 1}", "\"\xff\"", "[1e999]"}) {
    EXPECT_NE(message_of(text), "") << text;
  }
}

TEST(Json, LimitsTheDepth) {
  EXPECT_EQ(message_of(nested(200)), "");
  EXPECT_EQ(message_of(nested(201)), "config.json: JSON nested deeper than 200 levels");
}

TEST(Json, AMillionLevelsDoNotOverflowTheStack) {
  EXPECT_NE(message_of(nested(1000000)), "");
  EXPECT_NE(message_of(std::string(1000000, '[')), "");
}

TEST(Json, MessageIsShortWhateverWasRead) {
  EXPECT_LT(message_of("[" + std::string(100000, '\t') + "x]").size(), 400u);
}

std::string members(int count) {
  std::string text = "{";
  for (int i = 0; i < count; ++i) text += "\"" + std::to_string(i) + "\":" + (i % 2 ? "1," : "{},");
  text.back() = '}';
  return text;
}

TEST(Json, ManyMembersInOrderEndSoon) {
  EXPECT_EQ(parse_ordered_json(members(6000), "body").size(), 6000u);
  EXPECT_EQ(parse_json(members(100000), "body").size(), 100000u);
  try {
    parse_ordered_json(members(1000000), "body");  // 5 * 10^11 comparisons
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "body: JSON objects with too many members");
  }
  std::string list = "[";
  for (int i = 0; i < 200000; ++i) list += "{\"a\":1,\"b\":2},";
  list.back() = ']';
  EXPECT_EQ(parse_ordered_json(list, "body").size(), 200000u);
}

}  // namespace
}  // namespace baize
