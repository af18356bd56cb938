// Dummy weights (--load dummy): a configuration alone gives tensors of the same shapes as the checkpoint that it came
// with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "backend/cpu/cpu_backend.h"
#include "base/text.h"
#include "engine/evaluate.h"
#include "formats/dummy_weights.h"
#include "model/family.h"
#include "ops/dequant.h"
#include "unit/expect_error.h"
#include "unit/op_step.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

std::set<std::string> all_cases() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(BAIZE_GOLDENS_DIR))
    names.insert(entry.path().filename());
  return names;
}

// Cases whose shapes the configuration alone does not tell, one a line with the reason: "name: why".
bool is_exception(const std::string& name) {
  static const std::string list = "\n" + read_file(BAIZE_SOURCE_DIR "/tests/data/dummy_exceptions.txt");
  return list.find("\n" + name + ":") != std::string::npos;
}

std::unique_ptr<const Model> dry(const std::shared_ptr<const Checkpoint>& checkpoint, Backend& backend) {
  return bind(checkpoint, make_spec(*checkpoint), backend, {.compute = Compute::kExact, .dry = true});
}

TEST(EngineDummy, EveryGoldenCaseHasAsManyParameters) {
  const auto backend = make_cpu_backend(1);
  for (const std::string& name : all_cases()) {
    if (is_exception(name)) continue;
    const std::string folder = BAIZE_GOLDENS_DIR "/" + name;
    const auto stored = dry(open_checkpoint(folder), *backend);
    const auto dummy = dry(open_configuration(folder, "bf16"), *backend);
    EXPECT_EQ(dummy->parameters, stored->parameters) << name;
  }
}

TEST(EngineDummy, ExceptionsAreStillNeeded) {
  const auto backend = make_cpu_backend(1);
  for (const std::string& name : all_cases()) {
    if (!is_exception(name)) continue;
    const std::string folder = BAIZE_GOLDENS_DIR "/" + name;
    const auto stored = dry(open_checkpoint(folder), *backend);
    try {
      EXPECT_NE(dry(open_configuration(folder, "bf16"), *backend)->parameters, stored->parameters) << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUnsupported) << name << ": " << error.what();
    }
  }
}

TEST(EngineDummy, AnswersAreFiniteAndTheSameEveryTime) {
  const auto backend = make_cpu_backend(1);
  const std::vector<Token> ids = {1, 5, 9, 2};
  for (const char* format : {"bf16", "f16", "f32", "q8_0", "q4_0", "q4_k_m"}) {
    std::vector<float> first;
    for (int time = 0; time < 2; ++time) {
      const auto checkpoint = open_configuration(BAIZE_SOURCE_DIR "/tests/data/dummy_llama.json", format);
      const std::shared_ptr<const Model> model =
          bind(checkpoint, make_spec(*checkpoint), *backend, {.compute = Compute::kAuto, .dry = false});
      const std::vector<float> logits = evaluate(model, *backend, Compute::kAuto, ids, {});
      EXPECT_TRUE(std::ranges::all_of(logits, [](float x) { return std::isfinite(x); })) << format;
      EXPECT_GT(*std::ranges::max_element(logits) - *std::ranges::min_element(logits), 0.01f) << format;
      if (time == 1) {
        EXPECT_EQ(logits, first) << format;
      }
      first = logits;
    }
  }
}

// No golden case has more compressed entries than its indexer chooses; so a model of dummies stands for one.
TEST(EngineDummy, CompressedAttentionSeesWhatItsIndexerChose) {
  const auto backend = make_cpu_backend(1);
  const test::TempFolder folder;
  std::string config = read_file(BAIZE_SOURCE_DIR "/tests/data/dummy_sparse.json");
  const std::string few = "\"index_topk\": 2";
  ASSERT_NE(config.find(few), std::string::npos);
  const std::string chosen = folder.write("chosen.json", config);
  config.replace(config.find(few), few.size(), "\"index_topk\": 64");
  const std::string all = folder.write("all.json", config);
  std::vector<Token> ids;
  for (Token i = 0; i < 60; ++i) ids.push_back(7 * i % 128);
  const auto logits = [&](const std::string& path, std::vector<int64_t> chunks) {
    const auto checkpoint = open_configuration(path, "bf16");
    const std::shared_ptr<const Model> model =
        bind(checkpoint, make_spec(*checkpoint), *backend, {.compute = Compute::kExact, .dry = false});
    return evaluate(model, *backend, Compute::kExact, ids, chunks);
  };
  const std::vector<float> whole = logits(chosen, {});
  EXPECT_GT(op_test::nmse(whole, logits(all, {})), 1e-3);
  EXPECT_LT(op_test::nmse(logits(chosen, {31, 1, 1, 7, 20}), whole), 1e-10);
}

TEST(EngineDummy, MixOfQ4KM) {
  const auto backend = make_cpu_backend(1);
  const auto model = dry(open_configuration(BAIZE_SOURCE_DIR "/tests/data/dummy_llama.json", "q4_k_m"), *backend);
  std::set<std::string> better;
  for (const WeightInfo& weight : model->weights) {
    const std::string format = weight.shape.format.name();
    if (format == "Q6_K") better.insert(weight.name);
    EXPECT_THAT(format, testing::AnyOf("Q4_K", "Q6_K")) << weight.name;
  }
  EXPECT_THAT(better, testing::ElementsAre("head", "layers.1.attn.v", "layers.1.ffn.down"));  // of two layers the last
}

TEST(EngineDummy, BytesRepeatAfterTheirPeriod) {
  DummyWeights weights("bf16");
  for (const QuantFormat& format : {QuantFormat::plain(DType::kBF16), QuantFormat::gguf(GgufType::kQ6_K)}) {
    const int64_t block = format.row_bytes(format.block_elems());
    const int64_t period = weights.bytes(format, false, block).period;
    EXPECT_EQ(period % block, 0);
    const std::span<const std::byte> all = weights.bytes(format, false, (2 * period / block + 3) * block).span;
    EXPECT_EQ(std::memcmp(all.data(), all.data() + period, static_cast<size_t>(period)), 0);
    std::vector<float> values(static_cast<size_t>(64 * format.block_elems()));
    dequantize_row(format, all.data(), std::ssize(values), values.data());
    double squares = 0;
    for (const float v : values) squares += static_cast<double>(v) * v;
    EXPECT_NEAR(std::sqrt(squares / static_cast<double>(values.size())), 0.02, 0.012) << format.name();
  }
}

TEST(EngineDummy, WhatIsNoConfigurationIsRefused) {
  const test::TempFolder folder;
  test::expect_error(ErrorKind::kNotFound, {"there is no file or folder"},
                     [&] { open_configuration(folder.file("a.json"), "bf16"); });
  folder.write("model.gguf", "GGUF");
  test::expect_error(ErrorKind::kInvalidArgument, {"is no configuration"},
                     [&] { open_configuration(folder.file("model.gguf"), "bf16"); });
  folder.write("list.json", "[1]");
  test::expect_error(ErrorKind::kCorrupt, {"must hold a JSON object"},
                     [&] { open_configuration(folder.file("list.json"), "bf16"); });
}

}  // namespace
}  // namespace baize
