// The golden cases of the supported families on the GPU, in both compute modes: logits in one piece and in chunks
// against the reference implementation's, and greedy continuations in f32.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "base/text.h"
#include "cuda/cuda_cases.h"
#include "unit/model_harness.h"

namespace baize {
namespace {

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

std::string goldens() {
  const char* folder = std::getenv("BAIZE_GOLDENS");
  return folder != nullptr ? folder : BAIZE_GOLDENS_DIR;
}

class CudaGoldenTest : public testing::TestWithParam<Compute> {
 protected:
  double worst_ = 0;

  void expect_close(std::span<const float> got, std::span<const float> want) {
    const double error = test::nmse(got, want);
    EXPECT_LE(error, GetParam() == Compute::kExact ? 1e-6 : 2e-3);
    worst_ = std::max(worst_, error);
  }
  void run_case(Backend& backend, const std::string& folder) {
    const Golden golden = load(folder);
    test::Harness harness(folder, backend, GetParam(), 128);
    const std::vector<float> logits = harness.feed(golden.input_ids);
    expect_close(logits, golden.logits);
    std::vector<int> singles(27, 1);
    singles[0] = 70;
    std::vector<std::vector<int>> chunkings = {{96}};
    if (!folder.ends_with("rope_dynamic")) {  // its angles follow the length seen: only one piece is defined
      chunkings.push_back(singles);
      chunkings.push_back({7, 1, 30, 2, 50, 6});
    }
    for (const std::vector<int>& chunks : chunkings) {
      harness.reset();
      std::vector<float> all;
      size_t at = 0;
      for (const int chunk : chunks) {
        const auto part = harness.feed(std::span(golden.long_ids).subspan(at, static_cast<size_t>(chunk)));
        all.insert(all.end(), part.begin(), part.end());
        at += static_cast<size_t>(chunk);
      }
      all.erase(all.begin(), all.end() - static_cast<int64_t>(golden.long_logits.size()));
      expect_close(all, golden.long_logits);
    }
    if (GetParam() == Compute::kExact && golden.consistent) {
      harness.reset();
      std::vector<float> next = harness.feed(golden.input_ids);
      std::vector<Token> generated;
      const auto vocab = static_cast<int64_t>(golden.logits.size() / golden.input_ids.size());
      while (generated.size() < golden.generated.size()) {
        generated.push_back(
            static_cast<Token>(std::max_element(next.end() - vocab, next.end()) - (next.end() - vocab)));
        next = harness.feed(std::span(&generated.back(), 1));
      }
      EXPECT_EQ(generated, golden.generated);
    }
  }
};

TEST_P(CudaGoldenTest, EveryFamily) {
  const auto backend = make_cuda_backend(0);
  for (const char* name : kCases) {
    SCOPED_TRACE(name);
    worst_ = 0;
    run_case(*backend, goldens() + "/" + name);
    std::printf("  %-24s worst NMSE %.2e\n", name, worst_);
  }
}

INSTANTIATE_TEST_SUITE_P(Exact, CudaGoldenTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaGoldenTest, testing::Values(Compute::kAuto));

}  // namespace
}  // namespace baize
