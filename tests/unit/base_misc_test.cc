#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <unordered_set>

#include "base/check.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/mutate.h"

namespace baize {
namespace {

using testing::HasSubstr;

TEST(CheckDeathTest, AFailedCheckNamesThePlaceAndAborts) {
  const int one = 1;
  BAIZE_CHECK(one == 1);
  EXPECT_DEATH(BAIZE_CHECK(one == 2), "base_misc_test.cc:[0-9]+: one == 2");
  EXPECT_DEATH(BAIZE_UNREACHABLE("not here"), "not here");
}

TEST(Clock, NeverRunsBackwards) {
  double last = now_seconds();
  for (int i = 0; i < 1000; ++i) {
    const double now = now_seconds();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(Ids, CompareHashAndStartInvalid) {
  using Id1 = Id<struct One>;
  EXPECT_EQ(Id1{}.value, -1);
  EXPECT_LT(Id1{1}, Id1{2});
  const std::unordered_set<Id1> ids = {{1}, {2}, {1}};
  EXPECT_EQ(ids.size(), 2u);
  static_assert(!std::is_convertible_v<Id<struct Two>, Id1>);
}

TEST(Log, RefusesUnknownLevelsAndKeepsTheOldOne) {
  init_logging("warn");
  try {
    init_logging("loud");
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kInvalidArgument);
    EXPECT_THAT(e.what(), HasSubstr("\"loud\""));
  }
  EXPECT_EQ(spdlog::get_level(), spdlog::level::warn);
}

TEST(Log, WritesOnlyFromItsLevelUp) {
  testing::internal::CaptureStderr();
  init_logging("error");
  log::warn("quiet {}", 1);
  log::error("heard {}", 2);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("heard 2"));
  EXPECT_THAT(text, testing::Not(HasSubstr("quiet")));
  init_logging("warn");
}

TEST(Mutate, NothingIsSwitchedOffUnasked) { EXPECT_FALSE(mutated("base.example")); }

}  // namespace
}  // namespace baize
