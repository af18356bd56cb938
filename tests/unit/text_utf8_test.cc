#include "text/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace baize {
namespace {

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  EXPECT_EQ(find_invalid_utf8("aé你😀\U0010ffff"), std::nullopt);
  const std::pair<const char*, size_t> cases[] = {
      {"a\x80", 1},             // a continuation byte alone
      {"é\xC3", 2},             // unfinished
      {"\xC0\x80", 0},          // overlong
      {"ab\xE0\x80\x80", 2},    // overlong
      {"\xED\xA0\x80", 0},      // a surrogate
      {"\xF4\x90\x80\x80", 0},  // beyond U+10FFFF
      {"\xF0\x8F\x80\x80", 0},  // overlong
      {"\xF5\x80\x80\x80", 0},  // no such lead byte
      {"你\xE4\xBD\x41好", 3},  // broken off
  };
  for (const auto& [text, at] : cases) EXPECT_EQ(find_invalid_utf8(text), at) << text;
}

std::string stream(std::string_view bytes, size_t step) {
  Utf8Stream stream;
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += step) {
    std::string part;
    stream.push(bytes.substr(i, step), part);
    EXPECT_EQ(find_invalid_utf8(part), std::nullopt);
    out += part;
  }
  stream.flush(out);
  return out;
}

TEST(Utf8, StreamsWholeCharacters) {
  const std::string text = "aé你😀\U0010ffff.";
  for (size_t step = 1; step < 8; ++step) EXPECT_EQ(stream(text, step), text);
}

// The examples of the Unicode standard, tables 3-8 to 3-11.
TEST(Utf8, ReplacesEachMaximalSubpart) {
  const std::string r = "\uFFFD";
  for (size_t step = 1; step < 4; ++step) {
    EXPECT_EQ(stream("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", step), r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(stream("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", step), r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(stream("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", step), r + r + r + r + r + "A" + r + r + "B");
    EXPECT_EQ(stream("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", step), r + r + r + r + "A");
    EXPECT_EQ(stream("a\xF0\x9F\x98", step), "a" + r);
  }
}

TEST(Utf8, StreamDoesNotDependOnTheCuts) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(1 + random() % 12, '\0');
    const unsigned char interesting[] = {0x41, 0x80, 0x8F, 0x90, 0xA0, 0xBF, 0xC2, 0xE0, 0xE4, 0xED, 0xF0, 0xF4, 0xFF};
    for (char& byte : bytes) byte = static_cast<char>(interesting[random() % std::size(interesting)]);
    const std::string whole = stream(bytes, bytes.size());
    EXPECT_EQ(stream(bytes, 1), whole);
    EXPECT_EQ(stream(bytes, 3), whole);
  }
}

}  // namespace
}  // namespace baize
