// GgufWriter: what is written is what GgufFile reads; nothing is left behind when it is not finished.
#include "formats/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/json.h"
#include "base/text.h"
#include "formats/gguf.h"
#include "unit/expect_error.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::TempFolder;
using testing::ElementsAre;

const GgufValues kValues = {{"general.architecture", std::string("llama")},
                            {"a.flag", true},
                            {"a.u32", uint32_t{4'000'000'000}},
                            {"a.i32", int32_t{-7}},
                            {"a.u64", uint64_t{1} << 40},
                            {"a.float", 0.1f},
                            {"a.flags", std::vector<bool>{true, false, true}},
                            {"a.numbers", std::vector<int32_t>{-1, 2, 3}},
                            {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "", "\xff long"}},
                            {"tokenizer.ggml.scores", std::vector<float>{1.5f, -2}}};

std::vector<std::byte> pattern(size_t size, unsigned seed) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + seed);
  return bytes;
}

TEST(GgufWriter, WhatIsWrittenIsRead) {
  const TempFolder folder;
  const std::string path = folder.file("m.gguf");
  GgufWriter writer(path, false);
  writer.begin(kValues,
               {{"x", GgufType::kF32, {3}}, {"y", GgufType::kQ4_0, {2, 3, 32}}, {"z", GgufType::kF16, {5, 1}}});
  const auto x = pattern(12, 1), y = pattern(108, 2), z = pattern(10, 3);
  writer.write(2, 0, z);
  writer.write(1, 18, std::span(y).subspan(18));
  writer.write(1, 0, std::span(y).first(18));
  writer.write(0, 0, x);
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.finish();
  EXPECT_EQ(std::filesystem::file_size(path), static_cast<size_t>(writer.file_bytes()));

  const auto file = GgufFile::open(path);
  EXPECT_EQ(file->version(), 3);
  const Json& meta = file->metadata();
  EXPECT_EQ(meta.at("general.architecture"), "llama");
  EXPECT_EQ(meta.at("a.flag"), true);
  EXPECT_EQ(meta.at("a.u32"), 4'000'000'000u);
  EXPECT_EQ(meta.at("a.i32"), -7);
  EXPECT_EQ(meta.at("a.u64"), uint64_t{1} << 40);
  EXPECT_EQ(meta.at("a.float").get<float>(), 0.1f);
  EXPECT_EQ(meta.at("a.flags"), Json::array({true, false, true}));
  EXPECT_EQ(meta.at("a.numbers"), Json::array({-1, 2, 3}));
  EXPECT_THAT(file->strings("tokenizer.ggml.tokens"), ElementsAre("a", "", "\xff long"));
  EXPECT_THAT(file->floats("tokenizer.ggml.scores"), ElementsAre(1.5f, -2));
  ASSERT_EQ(file->tensors().size(), 3u);
  for (const auto& [index, name, shape, bytes] :
       {std::tuple{0, "x", Shape{3}, x}, std::tuple{1, "y", Shape{2, 3, 32}, y}, std::tuple{2, "z", Shape{5, 1}, z}}) {
    const SourceTensor& tensor = file->tensors()[static_cast<size_t>(index)];
    EXPECT_EQ(tensor.name, name);
    EXPECT_EQ(tensor.shape, shape);
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, bytes)) << name;
    EXPECT_EQ((tensor.bytes.data() - file->tensors()[0].bytes.data()) % GgufWriter::kAlignment, 0) << name;
  }
}

TEST(GgufWriter, ASecondBeginStartsAnew) {
  const TempFolder folder;
  GgufWriter writer(folder.file("m.gguf"), false);
  writer.begin(kValues, {{"large", GgufType::kF32, {1000}}});
  writer.write(0, 0, pattern(4000, 1));
  writer.begin({{"general.architecture", std::string("b")}}, {{"small", GgufType::kF32, {2}}});
  writer.finish();
  const auto file = GgufFile::open(folder.file("m.gguf"));
  EXPECT_EQ(file->metadata().size(), 1u);
  ASSERT_EQ(file->tensors().size(), 1u);
  EXPECT_TRUE(std::ranges::all_of(file->tensors()[0].bytes, [](std::byte b) { return b == std::byte{0}; }));
}

TEST(GgufWriter, LeavesNothingBehind) {
  const TempFolder folder;
  {
    GgufWriter writer(folder.file("m.gguf"), false);
    writer.begin(kValues, {{"x", GgufType::kF32, {4}}});
    EXPECT_TRUE(std::filesystem::exists(writer.temporary()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(GgufWriter, RefusesWhatItMustNotWrite) {
  const TempFolder folder;
  const std::string old = folder.write("old.gguf", "precious");
  expect_error(ErrorKind::kInvalidArgument, {"old.gguf", "--force"}, [&] { GgufWriter writer(old, false); });
  EXPECT_EQ(read_file(old), "precious");
  expect_error(ErrorKind::kInvalidArgument, {"folder"}, [&] { GgufWriter writer(folder.path().string(), true); });
  expect_error(ErrorKind::kIo, {"no/such/m.gguf"}, [&] {
    GgufWriter writer(folder.file("no/such/m.gguf"), false);
    writer.begin({}, {});
  });
  GgufWriter writer(old, true);
  writer.begin({{"general.architecture", std::string("b")}}, {});
  writer.finish();
  EXPECT_EQ(GgufFile::open(old)->metadata().at("general.architecture"), "b");
}

TEST(GgufWriter, SaysThatThereIsNoRoom) {
  const TempFolder folder;
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1 << 16, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  expect_error(ErrorKind::kResource, {"m.gguf", "4.00 MB"}, [&] {
    GgufWriter writer(folder.file("m.gguf"), false);
    writer.begin({}, {{"x", GgufType::kF32, {1000, 1000}}});
  });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace baize
