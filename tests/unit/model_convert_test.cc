// convert_to_gguf over the golden cases: every one of a family with a GGUF architecture is written, read back and gives
// the reference's logits, or is refused because GGUF cannot say it. The whole list of types is in the slow set.
#include "model/convert.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "backend/ref/ref_backend.h"
#include "base/json.h"
#include "base/text.h"
#include "unit/expect_error.h"
#include "unit/model_harness.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::Harness;
using test::TempFolder;

std::string golden(const std::string& name) { return std::string(BAIZE_GOLDENS_DIR) + "/" + name; }

// Cases that say what no GGUF key says, with a word of the refusal.
const std::pair<std::string, std::string> kRefused[] = {
    {"falcon+alibi", "alibi"},      {"llama4_text+temp", "temperature"},
    {"bloom+post", "from_normed"},  {"gpt2+scale", "activation"},
    {"llama+rope_dynamic", "rope"}, {"qwen2_moe+sparse", "ffn"},
    {"qwen3_moe+norm", "ffn"},      {"smollm3+nope", "rope"}};

std::vector<std::string> convertible_cases() {
  std::vector<std::string> cases;
  for (const auto& entry : std::filesystem::directory_iterator(BAIZE_GOLDENS_DIR)) {
    const std::string name = entry.path().filename().string();
    if (std::ranges::any_of(kRefused, [&](const auto& refused) { return refused.first == name; })) continue;
    try {
      gguf_architecture(*open_checkpoint(entry.path().string()));
      cases.push_back(name);
    } catch (const Error&) {  // a family without one
    }
  }
  std::ranges::sort(cases);
  return cases;
}

double error_of(const std::string& path, const std::string& name) {
  const std::unique_ptr<Backend> ref = make_ref_backend();
  const Json want = Json::parse(read_file(golden(name) + "/golden.json"));
  const auto ids = want.at("long_ids").get<std::vector<Token>>();
  Harness harness(path, *ref, Compute::kExact, std::ssize(ids));
  const std::vector<float> logits = harness.feed(ids);
  const auto rows = want.at("long_logits").get<std::vector<std::vector<double>>>();
  const size_t vocab = rows[0].size(), first = logits.size() - rows.size() * vocab;
  double error = 0, power = 0;
  for (size_t i = 0; i < rows.size() * vocab; ++i) {
    const double x = rows[i / vocab][i % vocab];
    error += std::pow(static_cast<double>(logits[first + i]) - x, 2);
    power += x * x;
  }
  return error / power;
}

std::string test_name(std::string name) {
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}

class Convert : public testing::TestWithParam<std::string> {
 protected:
  void convert(const std::string& type) {
    const std::unique_ptr<Backend> ref = make_ref_backend();
    out_ = folder_.file("m.gguf");
    report_ = convert_to_gguf(open_checkpoint(golden(GetParam())), *ref,
                              {.out = out_, .replace = true, .mix = find_mix(type), .title = "t", .tokenizer = {}});
  }

  TempFolder folder_;
  std::string out_;
  ConvertReport report_;
};

TEST_P(Convert, GivesTheSameLogits) {
  convert("f32");
  EXPECT_LE(error_of(out_, GetParam()), 1e-6);
  EXPECT_EQ(report_.bytes, static_cast<int64_t>(std::filesystem::file_size(out_)));
  for (const auto& [type, bytes] : report_.by_type) EXPECT_EQ(type, GgufType::kF32);
}

INSTANTIATE_TEST_SUITE_P(Golden, Convert, testing::ValuesIn(convertible_cases()),
                         [](const auto& each) { return test_name(each.param); });

class SlowConvert : public Convert {};

TEST_P(SlowConvert, EveryTypeIsRead) {
  for (const char* type : {"f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "mxfp4", "q2_k", "q3_k",
                           "q4_k", "q5_k", "q6_k", "iq4_xs", "q4_k_m"}) {
    convert(type);
    const double error = error_of(out_, GetParam());
    const bool plain = std::string_view(type).ends_with("f16");
    EXPECT_LE(error, plain ? 1e-3 : 3.0) << type;  // random models of width 32 are the worst to quantise
    EXPECT_GT(error, 0) << type;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, SlowConvert, testing::ValuesIn(convertible_cases()),
                         [](const auto& each) { return test_name(each.param); });

TEST(ConvertRefuses, WhatGgufCannotSay) {
  const TempFolder folder;
  const std::unique_ptr<Backend> ref = make_ref_backend();
  const auto convert = [&](const std::string& path) {
    convert_to_gguf(
        open_checkpoint(path), *ref,
        {.out = folder.file("m.gguf"), .replace = false, .mix = find_mix("f32"), .title = {}, .tokenizer = {}});
  };
  for (const auto& [name, word] : kRefused) {
    expect_error(ErrorKind::kUnsupported, {name, "cannot say", word}, [&] { convert(golden(name)); });
  }
  expect_error(ErrorKind::kUnsupported, {"rwkv4", "llama"}, [&] { convert(golden("rwkv")); });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  convert(golden("llama"));
  expect_error(ErrorKind::kInvalidArgument, {"only such"}, [&] { convert(folder.file("m.gguf")); });
}

TEST(ConvertRefuses, WeightsThatAreNoNumbers) {
  const TempFolder folder;
  const std::string copy = folder.file("model");
  std::filesystem::copy(golden("llama"), copy);
  std::fstream file(copy + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end);
  file.write("\xc0\x7f", 2);  // bf16 NaN
  file.close();
  const std::unique_ptr<Backend> ref = make_ref_backend();
  expect_error(ErrorKind::kCorrupt, {"no numbers"}, [&] {
    convert_to_gguf(
        open_checkpoint(copy), *ref,
        {.out = folder.file("m.gguf"), .replace = false, .mix = find_mix("q8_0"), .title = {}, .tokenizer = {}});
  });
  EXPECT_FALSE(std::filesystem::exists(folder.file("m.gguf")));
}

TEST(GgufMix, Names) {
  EXPECT_EQ(find_mix("Q4_K_M").type, GgufType::kQ4_K);
  EXPECT_EQ(find_mix("q2_K").type, GgufType::kQ2_K);
  expect_error(ErrorKind::kInvalidArgument, {"q9", "iq4_xs"}, [] { find_mix("q9"); });
}

// llama.cpp's llama_tensor_get_type for LLAMA_FTYPE_MOSTLY_Q4_K_M over 32 layers.
TEST(GgufMix, MoreBits) {
  const GgufMix& mix = find_mix("q4_k_m");
  int more = 0;
  for (int64_t layer = 0; layer < 32; ++layer) {
    const MixPlace down{.stem = "ffn.down", .layer = layer, .layers = 32};
    more += mix_type(mix, down) == GgufType::kQ6_K;
    EXPECT_EQ(mix_type(mix, {.stem = "attn.v", .layer = layer, .layers = 32}), mix_type(mix, down));
    EXPECT_EQ(mix_type(mix, {.stem = "attn.q", .layer = layer, .layers = 32}), GgufType::kQ4_K);
  }
  EXPECT_EQ(more, 16);
  EXPECT_EQ(mix_type(mix, {.stem = "head", .is_head = true}), GgufType::kQ6_K);
  EXPECT_EQ(mix_type(mix, {.stem = "attn.v", .layer = 9, .layers = 32, .experts = 8}), GgufType::kQ8_0);
}

TEST(GgufMix, RowsThatBlocksDoNotDivide) {
  EXPECT_EQ(fitting_type(GgufType::kQ4_K, 512), GgufType::kQ4_K);
  EXPECT_EQ(fitting_type(GgufType::kQ4_K, 288), GgufType::kQ5_0);
  EXPECT_EQ(fitting_type(GgufType::kQ2_K, 32), GgufType::kQ4_0);
  EXPECT_EQ(fitting_type(GgufType::kQ6_K, 48), GgufType::kF16);
  EXPECT_EQ(fitting_type(GgufType::kQ8_0, 48), GgufType::kF16);
}

}  // namespace
}  // namespace baize
