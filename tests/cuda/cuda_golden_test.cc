// Every golden case on the GPU, in both compute modes: logits in one piece and in chunks against the reference
// implementation's, and greedy continuations in f32. BAIZE_GOLDEN_CASE=NAME runs one.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "cuda/cuda_cases.h"
#include "cuda/golden_lists.h"
#include "unit/model_harness.h"

namespace baize {
namespace {

// Whether a list of tests/data (built in) has a line for the case.
bool listed(const char* list, const std::string& name) {
  return ("\n" + std::string(list)).find("\n" + name + ":") != std::string::npos;
}

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

std::vector<std::string> all_cases() {
  std::vector<std::string> names;
  if (const char* only = std::getenv("BAIZE_GOLDEN_CASE"); only != nullptr) return {only};
  for (const auto& entry : std::filesystem::directory_iterator(goldens())) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// Two experts, or two positions of an indexer, of nearly equal score: rounded to bf16, the other one is taken.
constexpr double kNearTieNmse = 0.5;

class CudaGoldenTest : public testing::TestWithParam<Compute> {
 protected:
  double worst_ = 0, bound_ = 0;

  void expect_close(std::span<const float> got, std::span<const float> want) {
    const double error = test::nmse(got, want);
    EXPECT_LE(error, bound_);
    if (!(error <= worst_) && !std::isnan(worst_)) worst_ = error;  // a NaN is the worst
  }
  // Where the archive's logits rest on an accident of the reference's sorting (tests/unit/model_golden_test.cc), our
  // own reference's take their place.
  static void replace(Golden& golden, const std::string& folder) {
    const auto ref = make_ref_backend();
    test::Harness own(folder, *ref, Compute::kExact, 128);
    golden.logits = own.feed(golden.input_ids);
    own.reset();
    const std::vector<float> all = own.feed(golden.long_ids);
    golden.long_logits.assign(all.end() - static_cast<int64_t>(golden.long_logits.size()), all.end());
    golden.consistent = false;
  }
  static int failures() { return testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count(); }
  void run_case(Backend& backend, const std::string& name) {
    const std::string folder = goldens() + "/" + name;
    Golden golden = load(folder);
    if (listed(kExactTies, name)) replace(golden, folder);
    const bool near_tie = listed(kNearTies, name) || listed(kCudaNearTies, name);
    bound_ = GetParam() == Compute::kExact ? 1e-6 : near_tie ? kNearTieNmse : 2e-3;
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
  int passed = 0, failed = 0;
  for (const std::string& name : all_cases()) {
    if (listed(kPending, name)) continue;
    SCOPED_TRACE(name);
    worst_ = 0;
    const int before = failures();
    try {
      run_case(*backend, name);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
    const bool good = failures() == before;
    ++(good ? passed : failed);
    std::printf("  %-6s %-26s worst NMSE %.2e\n", good ? "ok" : "FAILED", name.c_str(), worst_);
    std::fflush(stdout);
  }
  std::printf("  %d cases passed, %d failed\n", passed, failed);
  EXPECT_GT(passed, 0);
}

INSTANTIATE_TEST_SUITE_P(Exact, CudaGoldenTest, testing::Values(Compute::kExact));
INSTANTIATE_TEST_SUITE_P(Auto, CudaGoldenTest, testing::Values(Compute::kAuto));

}  // namespace
}  // namespace baize
