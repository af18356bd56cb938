#include "base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"

namespace baize {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(HumanBytes, ThreeDigitsAndDecimalUnits) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1000), "1.00 kB");
  EXPECT_EQ(human_bytes(98362432), "98.4 MB");
  EXPECT_EQ(human_bytes(123456), "123 kB");
  EXPECT_EQ(human_bytes(std::numeric_limits<int64_t>::max()), "9.22 EB");
}

TEST(HumanBytes, RoundingNeverShowsAThousand) {
  EXPECT_EQ(human_bytes(999499), "999 kB");
  EXPECT_EQ(human_bytes(999500), "1.00 MB");
  EXPECT_EQ(human_bytes(9995), "10.0 kB");
  EXPECT_EQ(human_bytes(99950), "100 kB");
}

TEST(HumanCount, GroupsByThousands) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1,000");
  EXPECT_EQ(human_count(35463168), "35,463,168");
  EXPECT_EQ(human_count(-100), "-100");
  EXPECT_EQ(human_count(-123456), "-123,456");
  EXPECT_EQ(human_count(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

TEST(ClosestNames, NearestFirstThenGivenOrder) {
  const std::vector<std::string> known = {"alpha", "beta", "betta", "gamma", "bet"};
  EXPECT_THAT(closest_names("beta", known), ElementsAre("beta", "betta", "bet"));
  EXPECT_THAT(closest_names("alhpa", known, 1), ElementsAre("alpha"));
  EXPECT_THAT(closest_names("x", {}, 3), IsEmpty());
  EXPECT_EQ(closest_names("", known, 99).size(), known.size());
}

TEST(ClosestNames, LongNamesAreCut) {
  const std::vector<std::string> known = {"one", "two"};
  EXPECT_EQ(closest_names(std::string(1 << 20, 'x'), known).size(), 2u);
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(split("a,,b", ','), ElementsAre("a", "", "b"));
  EXPECT_THAT(split(",", ','), ElementsAre("", ""));
  EXPECT_THAT(split("abc", ','), ElementsAre("abc"));
  EXPECT_THAT(split("", ','), IsEmpty());
}

class ReadFile : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string failure(const std::string& path, ErrorKind kind) {
    try {
      read_file(path);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << e.what();
      return e.what();
    }
    ADD_FAILURE() << path << " was read";
    return "";
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) / ("baize_read_file_" + std::to_string(getpid()));
};

TEST_F(ReadFile, ReturnsEveryByte) {
  const std::string bytes("a\0b\r\n\xff", 6);
  std::ofstream(folder_ / "f", std::ios::binary) << bytes;
  EXPECT_EQ(read_file(folder_ / "f"), bytes);
}

TEST_F(ReadFile, EmptyFileIsEmptyText) {
  std::ofstream(folder_ / "empty").flush();
  EXPECT_EQ(read_file(folder_ / "empty"), "");
}

TEST_F(ReadFile, FailuresNameThePath) {
  EXPECT_THAT(failure(folder_ / "absent", ErrorKind::kNotFound), HasSubstr("absent"));
  EXPECT_THAT(failure(folder_, ErrorKind::kIo), HasSubstr(folder_.string()));
}

}  // namespace
}  // namespace baize
