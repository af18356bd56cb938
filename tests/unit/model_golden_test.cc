// The golden cases of the supported families (tests/data/hf.tar.xz, unpacked by the build): logits of every position,
// whole and in chunks, and greedy continuations, against the reference implementation's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "base/json.h"
#include "base/text.h"
#include "unit/model_harness.h"

namespace baize {
namespace {

using test::Harness;

const char* const kCases[] = {"llama",
                              "llama+bias_headdim",
                              "llama+rope_dynamic",
                              "llama+rope_linear",
                              "llama+rope_llama3",
                              "mistral",
                              "qwen2",
                              "qwen2+window",
                              "qwen2+yarn",
                              "qwen3",
                              "gemma",
                              "gemma2",
                              "gemma2+caps",
                              "gemma3_text",
                              "gemma3_text+linear",
                              "phi3",
                              "phi3+longrope",
                              "phi3+partial"};

struct Golden {
  std::vector<Token> input_ids, long_ids, generated;
  std::vector<float> logits, long_logits;
  bool consistent = false;
};

std::vector<float> flat(const Json& rows) {
  std::vector<float> values;
  for (const Json& row : rows) {
    for (const Json& value : row) values.push_back(value.get<float>());
  }
  return values;
}

Golden load(const std::string& folder) {
  const Json json = parse_json(read_file(folder + "/golden.json"), folder);
  return {json["input_ids"],    json["long_ids"],          json["generated"],
          flat(json["logits"]), flat(json["long_logits"]), json["consistent"]};
}

// Normalised mean squared error of `got` against `want`.
double nmse(std::span<const float> got, std::span<const float> want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, power = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    difference += d * d;
    power += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  return difference / power;
}

// How a case is run: on which backend, in which arithmetic, and how near the reference it must come.
struct Mode {
  const char* name;
  std::unique_ptr<Backend> (*backend)();
  Compute compute;
  double max_nmse;
};

const Mode kModes[] = {
    {"Ref", make_ref_backend, Compute::kExact, 1e-6},
    {"Cpu", [] { return make_cpu_backend(2); }, Compute::kExact, 1e-6},
    {"CpuAuto", [] { return make_cpu_backend(2); }, Compute::kAuto, 1e-3},
};

class GoldenTest : public testing::TestWithParam<std::tuple<Mode, const char*>> {
 protected:
  Mode mode_ = std::get<0>(GetParam());
  double max_nmse_ = mode_.max_nmse;
  std::string folder_ = std::string(BAIZE_GOLDENS_DIR) + "/" + std::get<1>(GetParam());
  Golden golden_ = load(folder_);
  std::unique_ptr<Backend> backend_ = mode_.backend();
  Harness harness_{folder_, *backend_, mode_.compute, 128};

  // Logits of the last 8 positions of the long prompt, fed in chunks.
  std::vector<float> long_logits(std::span<const int> chunks) {
    harness_.reset();
    std::vector<float> all;
    size_t at = 0;
    for (const int chunk : chunks) {
      const auto part = harness_.feed(std::span(golden_.long_ids).subspan(at, static_cast<size_t>(chunk)));
      all.insert(all.end(), part.begin(), part.end());
      at += static_cast<size_t>(chunk);
    }
    EXPECT_EQ(at, golden_.long_ids.size());
    return {all.end() - static_cast<int64_t>(golden_.long_logits.size()), all.end()};
  }
  bool depends_on_length() const { return folder_.ends_with("rope_dynamic"); }
};

TEST_P(GoldenTest, LogitsInOnePiece) {
  EXPECT_LE(nmse(harness_.feed(golden_.input_ids), golden_.logits), max_nmse_);
  const int whole[] = {96};
  EXPECT_LE(nmse(long_logits(whole), golden_.long_logits), max_nmse_);
}

TEST_P(GoldenTest, LogitsInChunks) {
  if (depends_on_length()) return;  // its angles follow the length seen: only one piece is defined
  std::vector<int> singles(27, 1);
  singles[0] = 70;
  EXPECT_LE(nmse(long_logits(singles), golden_.long_logits), max_nmse_);
  const int uneven[] = {7, 1, 30, 2, 50, 6};
  EXPECT_LE(nmse(long_logits(uneven), golden_.long_logits), max_nmse_);
}

TEST_P(GoldenTest, GreedyContinuation) {
  if (mode_.compute != Compute::kExact) return;  // near ties may fall the other way
  if (!golden_.consistent) return;               // the reference's own cache disagrees with its full pass
  const size_t vocab = golden_.logits.size() / golden_.input_ids.size();
  std::vector<float> logits = harness_.feed(golden_.input_ids);
  std::vector<Token> generated;
  while (generated.size() < golden_.generated.size()) {
    const auto last = logits.end() - static_cast<int64_t>(vocab);
    generated.push_back(static_cast<Token>(std::max_element(last, logits.end()) - last));
    logits = harness_.feed(std::span(&generated.back(), 1));
  }
  EXPECT_EQ(generated, golden_.generated);
}

std::string case_name(const testing::TestParamInfo<std::tuple<Mode, const char*>>& param) {
  std::string name = std::string(std::get<0>(param.param).name) + "_" + std::get<1>(param.param);
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest, testing::Combine(testing::ValuesIn(kModes), testing::ValuesIn(kCases)),
                         case_name);

}  // namespace
}  // namespace baize
