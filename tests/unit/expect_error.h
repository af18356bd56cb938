// expect_error: runs something that must throw baize::Error of a kind, with given words in its sentence.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "base/error.h"

namespace baize::test {

template <typename Run>
void expect_error(ErrorKind kind, std::initializer_list<std::string> words, Run run) {
  try {
    run();
  } catch (const Error& e) {
    EXPECT_STREQ(to_string(e.kind()), to_string(kind)) << e.what();
    for (const std::string& word : words) EXPECT_THAT(e.what(), testing::HasSubstr(word));
    return;
  }
  ADD_FAILURE() << "no error, but expected " << to_string(kind);
}

}  // namespace baize::test
