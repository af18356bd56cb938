#include "formats/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "formats/gguf.h"
#include "unit/expect_error.h"
#include "unit/model_files.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::GgufBuilder;
using test::raw;
using test::safetensors_file;

class CheckpointTest : public testing::Test {
 protected:
  std::string folder() const { return folder_.path().string(); }
  void refuse(const std::string& path, ErrorKind kind, std::initializer_list<std::string> words) {
    expect_error(kind, words, [&] { open_checkpoint(path); });
  }
  // A shard with one f32 for each name.
  void shard(std::string_view file, const std::vector<std::string>& names) {
    Json header = Json::object();
    for (size_t i = 0; i < names.size(); ++i) {
      header[names[i]] = {{"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {4 * i, 4 * i + 4}}};
    }
    folder_.write(file, safetensors_file(header.dump(), std::string(4 * names.size(), 'x')));
  }
  void index(const Json& map) { folder_.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump()); }

  test::TempFolder folder_;
};

// ---- Hugging Face folders ---------------------------------------------------------------------------------------

TEST_F(CheckpointTest, OpensAFolder) {
  folder_.write("config.json", R"({"model_type": "x", "n": 3})");
  folder_.write("generation_config.json", R"({"eos_token_id": [1, 2]})");
  folder_.write("model.safetensors",
                safetensors_file(R"({"w":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},)"
                                 R"("position_ids":{"dtype":"I64","shape":[1],"data_offsets":[4,12]}})",
                                 std::string(12, 'x')));
  const auto model = open_checkpoint(folder());
  EXPECT_EQ(model->kind(), Checkpoint::Kind::kHuggingFace);
  EXPECT_EQ(model->path(), folder());
  EXPECT_EQ(model->tokenizer_folder(), folder());
  EXPECT_EQ(model->gguf(), nullptr);
  EXPECT_EQ(model->metadata()["n"], 3);
  EXPECT_EQ(model->generation_config()["eos_token_id"].size(), 2u);
  ASSERT_EQ(model->tensors().size(), 1u);
  ASSERT_NE(model->find("w"), nullptr);
  EXPECT_EQ(model->find("w")->shape, (Shape{1, 2}));
  EXPECT_EQ(model->find("v"), nullptr);
  expect_error(ErrorKind::kUnsupported, {"position_ids", "I64", "BF16"}, [&] { model->find("position_ids"); });
}

TEST_F(CheckpointTest, GenerationConfigIsOptional) {
  folder_.write("config.json", "{}");
  shard("model.safetensors", {"w"});
  EXPECT_EQ(open_checkpoint(folder())->generation_config(), Json::object());
}

TEST_F(CheckpointTest, OpensShards) {
  folder_.write("config.json", "{}");
  shard("model-1.safetensors", {"a", "b"});
  shard("model-2.safetensors", {"c", "unlisted"});
  index({{"a", "model-1.safetensors"}, {"b", "model-1.safetensors"}, {"c", "model-2.safetensors"}});
  const auto model = open_checkpoint(folder());
  ASSERT_EQ(model->tensors().size(), 4u);
  EXPECT_EQ(model->tensors()[0].name, "a");
  EXPECT_EQ(model->tensors()[2].name, "c");
  EXPECT_NE(model->find("unlisted"), nullptr);
}

TEST_F(CheckpointTest, NamesEveryMissingShard) {
  folder_.write("config.json", "{}");
  shard("2.safetensors", {"b"});
  index({{"a", "1.safetensors"}, {"b", "2.safetensors"}, {"c", "3.safetensors"}, {"d", "3.safetensors"}});
  refuse(folder(), ErrorKind::kNotFound, {"1.safetensors, 3.safetensors"});
}

TEST_F(CheckpointTest, RefusesAnIndexThatContradictsTheShards) {
  folder_.write("config.json", "{}");
  shard("1.safetensors", {"a"});
  shard("2.safetensors", {"b"});
  index({{"a", "1.safetensors"}, {"b", "2.safetensors"}, {"c", "2.safetensors"}});
  refuse(folder(), ErrorKind::kCorrupt, {"\"c\"", "2.safetensors", "does not hold it"});
  shard("2.safetensors", {"a", "b"});
  index({{"a", "1.safetensors"}, {"b", "2.safetensors"}});
  refuse(folder(), ErrorKind::kCorrupt, {"\"a\"", "1.safetensors"});
  shard("1.safetensors", {"a", "extra"});
  shard("2.safetensors", {"b", "extra"});
  refuse(folder(), ErrorKind::kCorrupt, {"\"extra\"", "both"});
}

TEST_F(CheckpointTest, RefusesABadIndex) {
  folder_.write("config.json", "{}");
  const auto with = [&](std::string_view text, std::initializer_list<std::string> words) {
    folder_.write("model.safetensors.index.json", text);
    refuse(folder(), ErrorKind::kCorrupt, words);
  };
  with("{", {"index.json", "JSON"});
  with("[]", {"JSON object"});
  with("{}", {"weight_map"});
  with(R"({"weight_map": {}})", {"weight_map"});
  with(R"({"weight_map": {"a": 3}})", {"no file name"});
  with(R"({"weight_map": {"a": "../x.safetensors"}})", {"no file name"});
  with(R"({"weight_map": {"a": ""}})", {"no file name"});
}

TEST_F(CheckpointTest, SaysWhatAFolderLacks) {
  refuse(folder_.file("none"), ErrorKind::kNotFound, {"no file or folder"});
  refuse(folder(), ErrorKind::kNotFound, {"config.json"});
  folder_.write("m.gguf", "");
  refuse(folder(), ErrorKind::kInvalidArgument, {"m.gguf"});
  folder_.write("config.json", "{}");
  refuse(folder(), ErrorKind::kNotFound, {"model.safetensors"});
  folder_.write("other.safetensors", "");
  refuse(folder(), ErrorKind::kNotFound, {"it has other.safetensors"});
  folder_.write("pytorch_model.bin", "");
  refuse(folder(), ErrorKind::kUnsupported, {"pytorch_model.bin", "convert"});
  folder_.write("config.json", "[1]");
  refuse(folder(), ErrorKind::kCorrupt, {"config.json", "object"});
  folder_.write("config.json", "{");
  refuse(folder(), ErrorKind::kCorrupt, {"config.json"});
  refuse(folder_.file("other.safetensors"), ErrorKind::kInvalidArgument, {"folder"});
}

// ---- GGUF -------------------------------------------------------------------------------------------------------

constexpr uint32_t kF32 = 0;

TEST_F(CheckpointTest, OpensAGgufFile) {
  const std::string path = folder_.write(
      "m.bin",
      GgufBuilder().set("general.architecture", "llama").tensor("w", {2, 3}, kF32, std::string(24, 'x')).bytes());
  const auto model = open_checkpoint(path);
  EXPECT_EQ(model->kind(), Checkpoint::Kind::kGguf);
  EXPECT_EQ(model->metadata()["general.architecture"], "llama");
  EXPECT_EQ(model->generation_config(), Json::object());
  EXPECT_EQ(model->tokenizer_folder(), "");
  ASSERT_NE(model->gguf(), nullptr);
  EXPECT_TRUE(model->gguf()->has("general.architecture"));
  ASSERT_NE(model->find("w"), nullptr);
  EXPECT_EQ(model->find("w")->shape, (Shape{3, 2}));
  EXPECT_EQ(model->find("x"), nullptr);
}

class SplitTest : public CheckpointTest {
 protected:
  static GgufBuilder part(int number, int count, std::string_view tensor) {
    GgufBuilder b;
    b.set("split.no", static_cast<uint16_t>(number)).set("split.count", static_cast<uint16_t>(count));
    if (number == 0) b.set("general.architecture", "llama");
    return b.tensor(tensor, {1}, kF32, raw(static_cast<float>(number)));
  }
  std::string name(int number, int count) const {
    return folder_.file(fmt::format("m-{:05}-of-{:05}.gguf", number + 1, count));
  }
  void write(int number, int count, const GgufBuilder& b) {
    folder_.write(fmt::format("m-{:05}-of-{:05}.gguf", number + 1, count), b.bytes());
  }
};

TEST_F(SplitTest, FindsTheOtherParts) {
  write(0, 3, part(0, 3, "a").set("split.tensors.count", int32_t{3}));
  write(1, 3, part(1, 3, "b"));
  write(2, 3, part(2, 3, "c"));
  const auto model = open_checkpoint(name(0, 3));
  ASSERT_EQ(model->tensors().size(), 3u);
  for (const char* tensor : {"a", "b", "c"}) {
    ASSERT_NE(model->find(tensor), nullptr);
    float value;
    std::memcpy(&value, model->find(tensor)->bytes.data(), 4);
    EXPECT_EQ(value, static_cast<float>(tensor[0] - 'a'));
  }
  EXPECT_EQ(model->metadata()["general.architecture"], "llama");
  refuse(name(1, 3), ErrorKind::kInvalidArgument, {"part 2 of a model split into 3", name(0, 3)});
}

TEST_F(SplitTest, NamesEveryMissingPart) {
  write(0, 4, part(0, 4, "a"));
  write(2, 4, part(2, 4, "c"));
  refuse(name(0, 4), ErrorKind::kNotFound, {name(1, 4) + ", " + name(3, 4)});
}

TEST_F(SplitTest, RefusesMixedParts) {
  write(0, 2, part(0, 2, "a"));
  write(1, 2, part(1, 3, "b"));
  refuse(name(0, 2), ErrorKind::kCorrupt, {"not part 2 of 2"});
  write(1, 2, part(0, 2, "b"));
  refuse(name(0, 2), ErrorKind::kCorrupt, {"not part 2 of 2"});
  write(1, 2, part(1, 2, "a"));
  refuse(name(0, 2), ErrorKind::kCorrupt, {"\"a\"", "both"});
  write(0, 2, part(0, 2, "a").set("split.tensors.count", int32_t{5}));
  write(1, 2, part(1, 2, "b"));
  refuse(name(0, 2), ErrorKind::kCorrupt, {"announces 5 tensors", "hold 2"});
}

TEST_F(SplitTest, RefusesRenamedFirstParts) {
  for (const char* file : {"m.gguf", "m-00001-of-00003.gguf", "m-0001-of-00002.gguf", "m-00001-xx-00002.gguf",
                           "-00001-of-00002.gguf/../m-00002-of-00002.gguf"}) {
    const std::string path = folder_.file(std::string(file).substr(std::string(file).find_last_of('/') + 1));
    folder_.write(path.substr(path.find_last_of('/') + 1), part(0, 2, "a").bytes());
    refuse(path, ErrorKind::kInvalidArgument, {"-00001-of-00002.gguf"});
  }
}

TEST_F(SplitTest, RefusesBadCounts) {
  refuse(folder_.write("m.gguf", GgufBuilder().set("split.count", "x").bytes()), ErrorKind::kCorrupt, {"split.count"});
  refuse(folder_.write("m.gguf", GgufBuilder().set("split.count", int32_t{-1}).bytes()), ErrorKind::kCorrupt,
         {"split.count"});
  refuse(folder_.write("m.gguf", GgufBuilder().set("split.count", uint64_t{1} << 63).bytes()), ErrorKind::kCorrupt,
         {"split.count"});
  EXPECT_NO_THROW(open_checkpoint(folder_.write("m.gguf", GgufBuilder().set("split.count", uint16_t{1}).bytes())));
}

}  // namespace
}  // namespace baize
