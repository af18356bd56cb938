#include "base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace baize {
namespace {

constexpr ErrorKind kAll[] = {ErrorKind::kInvalidArgument, ErrorKind::kNotFound, ErrorKind::kCorrupt,
                              ErrorKind::kUnsupported,     ErrorKind::kResource, ErrorKind::kIo,
                              ErrorKind::kNetwork,         ErrorKind::kCancelled};

TEST(Error, EveryKindHasItsOwnNameAndExitCode) {
  std::set<std::string> names;
  std::set<int> codes;
  for (const ErrorKind kind : kAll) {
    names.insert(to_string(kind));
    codes.insert(exit_code(kind));
    EXPECT_NE(exit_code(kind), 0);
    EXPECT_NE(exit_code(kind), 1);  // left to failures that are no baize::Error
  }
  EXPECT_EQ(names.size(), std::size(kAll));
  EXPECT_EQ(codes.size(), std::size(kAll));
}

TEST(Error, NamesAndCodesAreStable) {
  EXPECT_STREQ(to_string(ErrorKind::kInvalidArgument), "invalid_argument");
  EXPECT_STREQ(to_string(ErrorKind::kNotFound), "not_found");
  EXPECT_EQ(exit_code(ErrorKind::kCorrupt), 4);
  EXPECT_EQ(exit_code(ErrorKind::kCancelled), 130);
}

TEST(Error, FailFormatsTheMessageAndKeepsTheKind) {
  try {
    fail(ErrorKind::kCorrupt, "{}: tensor {} ends at {}", "a.gguf", 3, 17);
    FAIL() << "fail() returned";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kCorrupt);
    EXPECT_STREQ(e.what(), "a.gguf: tensor 3 ends at 17");
  }
}

}  // namespace
}  // namespace baize
