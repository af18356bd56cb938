#include "formats/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/json.h"
#include "unit/expect_error.h"
#include "unit/model_files.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::gguf_string;
using test::GgufBuilder;
using test::raw;
using testing::ElementsAre;

constexpr uint32_t kF32 = 0, kQ8_0 = 8, kIQ2_XXS = 16;

class GgufTest : public testing::Test {
 protected:
  std::shared_ptr<const GgufFile> open(std::string_view bytes) {
    return GgufFile::open(folder_.write("m.gguf", bytes));
  }
  std::shared_ptr<const GgufFile> open(const GgufBuilder& builder) { return open(builder.bytes()); }
  void refuse(const GgufBuilder& builder, std::initializer_list<std::string> words,
              ErrorKind kind = ErrorKind::kCorrupt) {
    expect_error(kind, words, [&] { open(builder); });
  }

  test::TempFolder folder_;
};

// A small valid file with every kind of value.
GgufBuilder example() {
  GgufBuilder b;
  b.set("general.architecture", "llama");
  b.set("a.u8", uint8_t{200}).set("a.i8", int8_t{-5}).set("a.u16", uint16_t{60000}).set("a.i16", int16_t{-300});
  b.set("a.u32", uint32_t{4000000000}).set("a.i32", int32_t{-70000}).set("a.f32", 0.5f).set("a.bool", true);
  b.set("a.u64", uint64_t{1} << 63).set("a.i64", int64_t{-1} << 40).set("a.f64", 0.1);
  b.set("a.list", std::vector<int32_t>{3, -4, 5});
  b.set("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "", "\xE4\xBD\xA0", "\xFF"});
  b.set("tokenizer.ggml.scores", std::vector<float>{0.f, -1.5f});
  b.set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 1});
  b.tensor("w", {32, 2}, kQ8_0, std::string(68, '\x11'));
  b.tensor("norm", {3}, kF32, raw(1.f) + raw(2.f) + raw(3.f));
  b.tensor("cube", {2, 3, 4}, kF32, std::string(96, '\0'));
  return b;
}

TEST_F(GgufTest, ReadsEveryKindOfValue) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder b = example();
    b.version = version;
    const auto file = open(b);
    EXPECT_EQ(file->version(), static_cast<int>(version));
    EXPECT_EQ(file->metadata().dump(),
              R"({"a.bool":true,"a.f32":0.5,"a.f64":0.1,"a.i16":-300,"a.i32":-70000,"a.i64":-1099511627776,"a.i8":-5,)"
              R"("a.list":[3,-4,5],"a.u16":60000,"a.u32":4000000000,"a.u64":9223372036854775808,"a.u8":200,)"
              R"("general.architecture":"llama"})");
  }
}

TEST_F(GgufTest, ReadsVocabularyArrays) {
  const auto file = open(example());
  EXPECT_THAT(file->strings("tokenizer.ggml.tokens"), ElementsAre("<s>", "", "\xE4\xBD\xA0", "\xFF"));
  EXPECT_THAT(file->floats("tokenizer.ggml.scores"), ElementsAre(0.f, -1.5f));
  EXPECT_THAT(file->ints("tokenizer.ggml.token_type"), ElementsAre(3, 1));
  EXPECT_THAT(file->ints("a.list"), ElementsAre(3, -4, 5));
  EXPECT_TRUE(file->has("a.list"));
  EXPECT_FALSE(file->has("nothing"));
  EXPECT_TRUE(file->strings("nothing").empty());
  EXPECT_TRUE(file->floats("nothing").empty());
  EXPECT_TRUE(file->ints("nothing").empty());
  expect_error(ErrorKind::kCorrupt, {"a.u8", "array"}, [&] { file->ints("a.u8"); });
  expect_error(ErrorKind::kCorrupt, {"array of strings"}, [&] { file->strings("a.list"); });
  expect_error(ErrorKind::kCorrupt, {"array of floats"}, [&] { file->floats("a.list"); });
  expect_error(ErrorKind::kCorrupt, {"array of integers"}, [&] { file->ints("tokenizer.ggml.scores"); });
  expect_error(ErrorKind::kCorrupt, {"array of integers"}, [&] { file->ints("tokenizer.ggml.tokens"); });
}

TEST_F(GgufTest, IntegersOfEveryWidth) {
  GgufBuilder b;
  b.set("u8", std::vector<uint8_t>{255}).set("i8", std::vector<int8_t>{-1}).set("bool", std::vector<bool>{true, false});
  b.set("u64", std::vector<uint64_t>{uint64_t{1} << 40}).set("big", std::vector<uint64_t>{uint64_t{1} << 63});
  const auto file = open(b);
  EXPECT_THAT(file->ints("u8"), ElementsAre(255));
  EXPECT_THAT(file->ints("i8"), ElementsAre(-1));
  EXPECT_THAT(file->ints("bool"), ElementsAre(1, 0));
  EXPECT_THAT(file->ints("u64"), ElementsAre(int64_t{1} << 40));
  expect_error(ErrorKind::kCorrupt, {"9223372036854775808"}, [&] { file->ints("big"); });
}

TEST_F(GgufTest, ReadsTensorsOutermostFirst) {
  const auto file = open(example());
  const auto tensors = file->tensors();
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].shape, (Shape{2, 32}));
  EXPECT_EQ(tensors[0].format, QuantFormat::gguf(GgufType::kQ8_0));
  EXPECT_EQ(tensors[0].bytes.size(), 68u);
  EXPECT_EQ(tensors[0].bytes[67], std::byte{0x11});
  EXPECT_EQ(tensors[1].format, QuantFormat::plain(DType::kF32));
  EXPECT_EQ(tensors[1].shape, (Shape{3}));
  float norm[3];
  std::memcpy(norm, tensors[1].bytes.data(), sizeof(norm));
  EXPECT_THAT(norm, ElementsAre(1.f, 2.f, 3.f));
  EXPECT_EQ(tensors[2].shape, (Shape{4, 3, 2}));
  for (const SourceTensor& t : tensors) EXPECT_EQ(reinterpret_cast<uintptr_t>(t.bytes.data()) % 32, 0u);
}

TEST_F(GgufTest, HonoursTheAlignment) {
  GgufBuilder b;
  b.alignment = 256;
  b.set("general.alignment", uint32_t{256});
  b.tensor("a", {1}, kF32, raw(1.5f)).tensor("b", {1}, kF32, raw(2.5f));
  const auto file = open(b);
  float value;
  std::memcpy(&value, file->tensors()[1].bytes.data(), 4);
  EXPECT_EQ(value, 2.5f);
  for (const uint32_t wrong : {0u, 4u, 24u, 100u}) {
    refuse(GgufBuilder().set("general.alignment", wrong), {"general.alignment", "power of two"});
  }
  refuse(GgufBuilder().set("general.alignment", "32"), {"general.alignment"});
  refuse(GgufBuilder().set("general.alignment", int32_t{-32}), {"general.alignment"});
}

TEST_F(GgufTest, KeepsBigAndTokenizerArraysOutOfTheMetadata) {
  GgufBuilder b;
  b.set("x.small", std::vector<uint8_t>(65'536, 1)).set("x.big", std::vector<uint8_t>(65'537, 1));
  b.set("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
  const auto file = open(b);
  EXPECT_EQ(file->metadata()["x.small"].size(), 65'536u);
  EXPECT_FALSE(file->metadata().contains("x.big"));
  EXPECT_FALSE(file->metadata().contains("tokenizer.ggml.tokens"));
  EXPECT_EQ(file->ints("x.big").size(), 65'537u);
}

TEST_F(GgufTest, ReadsNestedArraysToALimit) {
  const auto nest = [](int levels) {
    std::string bytes = raw<uint32_t>(4) + raw<uint64_t>(1) + raw<uint32_t>(7);
    for (int i = 1; i < levels; ++i) bytes = raw<uint32_t>(9) + raw<uint64_t>(1) + bytes;
    return GgufBuilder().value("deep", 9, bytes);
  };
  EXPECT_EQ(open(nest(1))->metadata().dump(), R"({"deep":[7]})");
  EXPECT_EQ(open(nest(4))->metadata().dump(), R"({"deep":[[[[7]]]]})");
  refuse(nest(5), {"deep", "nested deeper than 4"});
  refuse(nest(200), {"nested"});
}

TEST_F(GgufTest, ReplacesInvalidUtf8InMetadataTexts) {
  EXPECT_EQ(open(GgufBuilder().set("general.name", "a\xFF b"))->metadata()["general.name"], "a\xEF\xBF\xBD b");
  refuse(GgufBuilder().set("bad\xFFkey", "x"), {"not valid UTF-8"});
  refuse(GgufBuilder().tensor("bad\xC0", {1}, kF32, raw(0.f)), {"not valid UTF-8"});
  refuse(GgufBuilder().set("", "x"), {"empty"});
  refuse(GgufBuilder().set(std::string(65'536, 'k'), "x"), {"longer than 65,535"});
}

TEST_F(GgufTest, RefusesOtherFiles) {
  expect_error(ErrorKind::kCorrupt, {"not a GGUF file", "empty"}, [&] { open(""); });
  expect_error(ErrorKind::kCorrupt, {"not a GGUF file", "\"{\\\"a\\\"\""}, [&] { open(R"({"a": 1})"); });
  expect_error(ErrorKind::kCorrupt, {"Git LFS"}, [&] { open("version https://git-lfs.github.com/spec/v1\n"); });
  expect_error(ErrorKind::kNotFound, {"none.gguf"}, [&] { GgufFile::open(folder_.file("none.gguf")); });
  GgufBuilder b = example();
  b.version = 1;
  refuse(b, {"version 1"}, ErrorKind::kUnsupported);
  b.version = 4;
  refuse(b, {"version 4"}, ErrorKind::kUnsupported);
  b.version = 0x03000000;
  refuse(b, {"big-endian"}, ErrorKind::kUnsupported);
  b.version = 0;
  refuse(b, {"version 0"}, ErrorKind::kUnsupported);
}

TEST_F(GgufTest, RefusesCountsThatTheFileCannotHold) {
  for (const int64_t lie : {int64_t{1}, int64_t{1000}, int64_t{1} << 40, std::numeric_limits<int64_t>::min()}) {
    GgufBuilder b = example();
    b.extra_values = lie;
    expect_error(ErrorKind::kCorrupt, {"m.gguf"}, [&] { open(b); });
    b = example();
    b.extra_tensors = lie;
    expect_error(ErrorKind::kCorrupt, {"m.gguf"}, [&] { open(b); });
  }
}

TEST_F(GgufTest, RefusesLyingLengths) {
  for (const uint64_t count : {uint64_t{1000}, uint64_t{1} << 40, uint64_t{1} << 62, ~uint64_t{0}}) {
    for (const uint32_t type : {0u, 5u, 8u, 9u, 12u}) {
      SCOPED_TRACE(fmt::format("type {} count {}", type, count));
      refuse(GgufBuilder().value("a", 9, raw(type) + raw(count)), {"\"a\" announces"});
    }
    refuse(GgufBuilder().value("a", 8, raw(count)), {"truncated or corrupt"});
  }
  refuse(GgufBuilder().value("a", 13, raw<uint64_t>(0)), {"unknown type code 13"});
  refuse(GgufBuilder().value("a", 9, raw<uint32_t>(77) + raw<uint64_t>(0)), {"unknown type code 77"});
}

TEST_F(GgufTest, RefusesDuplicates) {
  refuse(GgufBuilder().set("k", 1.f).set("k", 2.f), {"key \"k\" appears twice"});
  refuse(GgufBuilder().tensor("t", {1}, kF32, raw(0.f)).tensor("t", {1}, kF32, raw(0.f)),
         {"tensor \"t\" appears twice"});
}

TEST_F(GgufTest, RefusesImpossibleShapes) {
  refuse(GgufBuilder().tensor("t", {}, kF32, ""), {"\"t\"", "0 dimensions"});
  refuse(GgufBuilder().tensor("t", {1, 1, 1, 1, 1}, kF32, raw(0.f)), {"5 dimensions"});
  refuse(GgufBuilder().tensor("t", {0}, kF32, ""), {"positive"});
  refuse(GgufBuilder().tensor("t", {4, 0}, kF32, ""), {"positive"});
  refuse(GgufBuilder().tensor("t", {4, ~uint64_t{0}}, kF32, ""), {"positive"});
  refuse(GgufBuilder().tensor("t", {33, 2}, kQ8_0, std::string(70, '\0')), {"[2, 33]", "Q8_0's block of 32"});
  refuse(GgufBuilder().tensor("t", {uint64_t{1} << 62}, kF32, ""), {"too large"});
  refuse(GgufBuilder().tensor("t", {uint64_t{1} << 31, uint64_t{1} << 31}, kF32, ""), {"too large"});
  refuse(GgufBuilder().tensor("t", {1, uint64_t{1} << 32, uint64_t{1} << 32}, kF32, ""), {"too large"});
}

TEST_F(GgufTest, RefusesTypesByName) {
  refuse(GgufBuilder().tensor("blk.0.w", {256}, kIQ2_XXS, std::string(66, '\0')),
         {"blk.0.w", "IQ2_XXS", "Q4_K", "MXFP4"}, ErrorKind::kUnsupported);
  refuse(GgufBuilder().tensor("w", {256}, 99, std::string(66, '\0')), {"\"w\"", "unknown weight type 99"},
         ErrorKind::kUnsupported);
}

TEST_F(GgufTest, RefusesMisplacedData) {
  const auto two = [](uint64_t first, uint64_t second) {
    GgufBuilder b;
    b.tensor("a", {16}, kF32, std::string(64, 'x')).tensor("b", {16}, kF32, std::string(64, 'y'));
    b.tensors[0].offset = first;
    b.tensors[1].offset = second;
    return b;
  };
  EXPECT_NO_THROW(open(two(0, 64)));
  EXPECT_NO_THROW(open(two(128, 0)));  // any order, with gaps
  refuse(two(0, 32), {"\"a\" and \"b\" overlap"});
  refuse(two(64, 64), {"overlap"});
  refuse(two(0, 65), {"\"b\"", "offset 65", "alignment 32"});
  for (const uint64_t far : {uint64_t{1} << 62, (uint64_t{1} << 63) - 64, uint64_t{0} - 64, uint64_t{0} - 32}) {
    GgufBuilder b = two(0, 64);
    b.tensors[1].data.clear();
    b.tensors[1].offset = far;
    refuse(b, {"m.gguf"});
  }
}

TEST_F(GgufTest, SaysHowMuchOfATruncatedFileIsMissing) {
  GgufBuilder b = example();
  const std::string whole = b.bytes();
  expect_error(ErrorKind::kCorrupt,
               {"truncated", std::to_string(whole.size() % 1000) + " bytes", std::to_string((whole.size() - 1) % 1000)},
               [&] { open(std::string_view(whole).substr(0, whole.size() - 1)); });
}

TEST_F(GgufTest, EveryTruncationIsRefused) {
  const std::string whole = example().bytes();
  for (size_t n = 0; n < whole.size(); ++n) {
    expect_error(ErrorKind::kCorrupt, {"m.gguf"}, [&] { open(std::string_view(whole).substr(0, n)); });
  }
}

TEST_F(GgufTest, NoChangedByteLeadsOutsideTheFile) {
  const std::string whole = example().bytes();
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int change : {0x01, 0x80, 0xFF}) {
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ change);
      try {
        const auto file = open(bad);
        for (const SourceTensor& t : file->tensors()) {
          ASSERT_GE(t.bytes.data(), t.file->bytes().data());
          ASSERT_LE(t.bytes.data() + t.bytes.size(), t.file->bytes().data() + t.file->bytes().size());
        }
        file->strings("tokenizer.ggml.tokens");
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace baize
