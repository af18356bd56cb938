#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "unit/expect_error.h"
#include "unit/model_files.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::raw;
using test::safetensors_file;

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsContent read(std::string_view bytes) {
    return read_safetensors(MappedFile::open(folder_.write("m.safetensors", bytes)));
  }
  SafetensorsContent read(std::string_view header, size_t data) {
    return read(safetensors_file(header, std::string(data, '\x22')));
  }
  void refuse(std::string_view header, size_t data, std::initializer_list<std::string> words) {
    SCOPED_TRACE(header);
    expect_error(ErrorKind::kCorrupt, words, [&] { read(header, data); });
  }

  test::TempFolder folder_;
};

constexpr std::string_view kExample =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[24,30]},)"
    R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"s":{"dtype":"BF16","shape":[],"data_offsets":[30,32]},)"
    R"("ids":{"dtype":"I64","shape":[1],"data_offsets":[32,40]},)"
    R"("conv":{"dtype":"F16","shape":[1,1,1,1,2],"data_offsets":[40,44]},)"
    R"("new":{"dtype":"F3_NEW","shape":[9],"data_offsets":[44,48]},)"
    R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[48,48]}}   )";

TEST_F(SafetensorsTest, ReadsInFileOrder) {
  const SafetensorsContent content = read(kExample, 48);
  ASSERT_EQ(content.tensors.size(), 4u);
  EXPECT_EQ(content.tensors[0].name, "a");
  EXPECT_EQ(content.tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(content.tensors[0].format, QuantFormat::plain(DType::kF32));
  EXPECT_EQ(content.tensors[0].bytes.data(), content.tensors[0].file->bytes().data() + 8 + kExample.size());
  EXPECT_EQ(content.tensors[1].name, "b");
  EXPECT_EQ(content.tensors[1].bytes.size(), 6u);
  EXPECT_EQ(content.tensors[2].name, "s");
  EXPECT_EQ(content.tensors[2].shape, (Shape{1}));
  EXPECT_EQ(content.tensors[2].format, QuantFormat::plain(DType::kBF16));
  EXPECT_EQ(content.tensors[3].name, "none");
  EXPECT_EQ(content.tensors[3].shape, (Shape{0, 4}));
  EXPECT_TRUE(content.tensors[3].bytes.empty());
  ASSERT_EQ(content.unsupported.size(), 3u);
  EXPECT_EQ(content.unsupported[0].name, "ids");
  EXPECT_EQ(content.unsupported[0].what, "the element type \"I64\"");
  EXPECT_EQ(content.unsupported[1].what, "5 dimensions");
  EXPECT_EQ(content.unsupported[2].what, "the element type \"F3_NEW\"");
}

TEST_F(SafetensorsTest, CopiesUnalignedData) {
  const std::string header = R"({"a":{"dtype":"F32","shape":[4096],"data_offsets":[0,16384]}})";
  const std::vector<float> values(4096, 1.5f);  // whole pages
  const std::string_view data(reinterpret_cast<const char*>(values.data()), 16384);
  for (size_t pad = 0; pad < 4; ++pad) {
    const std::string padded = header + std::string(pad, ' ');
    const SourceTensor tensor = read(safetensors_file(padded, data)).tensors[0];
    ASSERT_EQ(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 4, 0u);
    const auto all = tensor.file->bytes();
    const bool mapped = tensor.bytes.data() >= all.data() && tensor.bytes.data() < all.data() + all.size();
    EXPECT_EQ(mapped, (8 + padded.size()) % 4 == 0);
    tensor.file->drop_pages(tensor.bytes);  // must leave a copy alone
    EXPECT_EQ(std::memcmp(tensor.bytes.data(), data.data(), data.size()), 0);
  }
}

TEST_F(SafetensorsTest, RefusesOtherFiles) {
  expect_error(ErrorKind::kCorrupt, {"header's length", "0 bytes"}, [&] { read(""); });
  expect_error(ErrorKind::kCorrupt, {"not a safetensors file"}, [&] { read(raw<uint64_t>(100'000'001) + "{}"); });
  expect_error(ErrorKind::kCorrupt, {"not a safetensors file"}, [&] { read(raw<uint64_t>(~uint64_t{0}) + "{}"); });
  expect_error(ErrorKind::kCorrupt, {"truncated", "the header needs 10 bytes"},
               [&] { read(raw<uint64_t>(10) + "{}"); });
  expect_error(ErrorKind::kCorrupt, {"Git LFS"}, [&] { read("version https://git-lfs.github.com/spec/v1\n"); });
  refuse("", 0, {"no JSON object"});
  refuse(" {}", 0, {"no JSON object"});
  refuse("[]", 0, {"no JSON object"});
  refuse("{", 0, {"not valid JSON"});
  refuse("{}}", 0, {"not valid JSON"});
  refuse("{\"\xFF\":{}}", 0, {"not valid JSON"});
  refuse(R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}})", 4, {"out of range"});
}

TEST_F(SafetensorsTest, RefusesBadEntries) {
  refuse(R"({"a":7})", 0, {"\"a\"", "dtype"});
  refuse(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, {"no \"dtype\""});
  refuse(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, {"no \"shape\""});
  refuse(R"({"a":{"dtype":"F32","shape":[1]}})", 4, {"no \"data_offsets\""});
  refuse(R"({"a":{"dtype":5,"shape":[1],"data_offsets":[0,4]}})", 4, {"dtype"});
  refuse(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}})", 4, {"shape"});
  refuse(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, {"shape"});
  refuse(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, {"shape"});
  refuse(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", 4, {"data_offsets"});
  refuse(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, {"rising"});
  refuse(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})", 4, {"data_offsets"});
  refuse(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, {"shape [2] of F32 needs 8 bytes", "span 4"});
  refuse(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, {"F4"});
  refuse(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, {"too large"});
  refuse(R"({"a":{"dtype":"F32","shape":[4294967296,1073741824],"data_offsets":[0,0]}})", 0, {"too large"});
}

TEST_F(SafetensorsTest, RefusesDuplicateKeys) {
  refuse(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8, {"\"a\" twice"});
  refuse(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", 4, {"\"dtype\" twice"});
  EXPECT_EQ(read(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],)"
                 R"("data_offsets":[4,8]}})",
                 8)
                .tensors.size(),
            2u);
}

TEST_F(SafetensorsTest, RefusesDeepNesting) {
  refuse(std::string(R"({"a":)") + std::string(100'000, '['), 0, {"nested too deep"});
}

TEST_F(SafetensorsTest, RefusesHolesOverlapsAndWrongSizes) {
  const auto two = [](int b0, int b1) {
    return fmt::format(R"({{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},)"
                       R"("b":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}}})",
                       b0, b1);
  };
  EXPECT_EQ(read(two(4, 8), 8).tensors.size(), 2u);
  refuse(two(5, 9), 9, {"\"b\"", "hole"});
  refuse(two(3, 7), 7, {"\"b\"", "overlap"});
  refuse(two(0, 4), 4, {"overlap"});
  refuse(two(4, 8), 7, {"truncated"});
  refuse(two(4, 8), 9, {"1 bytes follow"});
  refuse("{}", 1, {"follow"});
  EXPECT_TRUE(read("{}", 0).tensors.empty());
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string whole = safetensors_file(kExample, std::string(48, 'x'));
  for (size_t n = 0; n < whole.size(); ++n) {
    expect_error(ErrorKind::kCorrupt, {"m.safetensors"}, [&] { read(std::string_view(whole).substr(0, n)); });
  }
}

}  // namespace
}  // namespace baize
