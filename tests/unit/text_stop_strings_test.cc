#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace baize {
namespace {

struct Result {
  std::string text, matched;
  bool operator==(const Result&) const = default;
};

Result run(const std::vector<std::string>& stops, std::string_view text, size_t step) {
  StopStrings matcher(stops);
  Result result;
  for (size_t i = 0; i < text.size(); i += step) result.text += matcher.push(text.substr(i, step));
  result.text += matcher.flush();
  result.matched = matcher.matched();
  EXPECT_EQ(matcher.stopped(), !result.matched.empty());
  return result;
}

TEST(StopStrings, CutsAtTheStringWhateverThePieces) {
  const std::vector<std::string> stops = {"\nUser:", "###", ""};
  for (size_t step = 1; step < 9; ++step) {
    EXPECT_EQ(run(stops, "Hello\nUser: x", step), (Result{"Hello", "\nUser:"}));
    EXPECT_EQ(run(stops, "a##b####", step), (Result{"a##b", "###"}));
    EXPECT_EQ(run(stops, "no stop\nUse", step), (Result{"no stop\nUse", ""}));
  }
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeOne) {
  StopStrings matcher({"abcab!"});
  EXPECT_EQ(matcher.push("xab"), "x");
  EXPECT_EQ(matcher.push("cab"), "");
  EXPECT_EQ(matcher.push("c"), "abc");  // "abc" is held back: it may begin the string again
  EXPECT_EQ(matcher.push("ab!rest"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopStrings, TheStringThatIsCompleteFirstCounts) {
  EXPECT_EQ(run({"abcd", "bc"}, "xabcd", 5), (Result{"xa", "bc"}));
  EXPECT_EQ(run({"bc", "abc"}, "xabcd", 5), (Result{"x", "abc"}));  // both end there: the longer one
  EXPECT_EQ(run({}, "text", 1), (Result{"text", ""}));
}

TEST(StopStrings, NothingOfAStopIsEverGivenOut) {
  std::mt19937 random(1);
  const std::vector<std::string> stops = {"aab", "abab", "bbb", "ba"};
  for (int round = 0; round < 500; ++round) {
    std::string text(random() % 30, '\0');
    for (char& c : text) c = "abc"[random() % 3];
    const Result whole = run(stops, text, text.size() + 1);
    EXPECT_EQ(whole.text + whole.matched, text.substr(0, whole.text.size() + whole.matched.size()));
    for (const std::string& stop : stops) EXPECT_EQ(whole.text.find(stop), std::string::npos);
    for (size_t step = 1; step < 5; ++step) EXPECT_EQ(run(stops, text, step), whole) << text;
  }
}

}  // namespace
}  // namespace baize
