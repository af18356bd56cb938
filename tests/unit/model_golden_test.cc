// Every golden case (tests/data/hf.tar.xz, unpacked by the build): logits of every position,
// whole and in chunks, and greedy continuations, against the reference implementation's. The cases that
// tests/reference/make_cases.py makes (make check-all) run as suite SlowVariants, from the folder BAIZE_VARIANTS names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "backend/cpu/cpu_backend.h"
#include "backend/ref/ref_backend.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "unit/engine_probe.h"
#include "unit/model_harness.h"

namespace baize {
namespace {

// The folders of every case in a folder.
std::vector<std::string> all_cases(const char* root) {
  std::vector<std::string> folders;
  if (root == nullptr) return folders;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (std::filesystem::exists(entry.path() / "golden.json")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}
std::string name_of(const std::string& folder) { return std::filesystem::path(folder).filename(); }

// Cases that do not pass yet, one a line with the reason: "name: why". One that passes must leave the list.
bool is_pending(const std::string& name) {
  static const std::string list = "\n" + read_file(BAIZE_SOURCE_DIR "/tests/data/golden_pending.txt");
  return list.find("\n" + name + ":") != std::string::npos;
}

// Cases in which two experts or two positions score nearly the same for some token: with activations rounded to bf16
// (AMX tiles), or keys to f16 where the line says "on every CPU", the other one is taken, and the logits are those of
// another, as good, answer. Only that bound is wider then.
bool has_near_tie(const std::string& name, bool amx) {
  static const std::string list = "\n" + read_file(BAIZE_SOURCE_DIR "/tests/data/golden_near_ties.txt");
  const size_t at = list.find("\n" + name + ":");
  if (at == std::string::npos) return false;
  return amx || list.substr(at + 1, list.find('\n', at + 1) - at).find("on every CPU") != std::string::npos;
}
constexpr double kNearTieNmse = 0.5;
constexpr double kVariantNmse = 2e-3;  // of made cases with `auto`, some of which have 300 tokens

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

// Cases whose indexers give several positions exactly the same score, so that what the reference keeps is an accident
// of its partial sort over the whole length: "name: tied rows".
bool has_exact_ties(const std::string& name) {
  static const std::string list = "\n" + read_file(BAIZE_SOURCE_DIR "/tests/data/golden_exact_ties.txt");
  return list.find("\n" + name + ":") != std::string::npos;
}

// The reference backend with the accident: torch's topk puts future positions behind, at -inf, and orders by score
// only.
class TorchTiesOps : public ref::RefOps {
 public:
  using RefOps::RefOps;

 protected:
  void keep_best(const std::vector<float>& scores, int64_t count, std::vector<int32_t>& best) const override {
    std::vector<std::pair<float, int32_t>> queue;
    for (const float score : scores) queue.emplace_back(score, static_cast<int32_t>(queue.size()));
    while (std::ssize(queue) < input().max_kv_len) queue.emplace_back(-INFINITY, static_cast<int32_t>(queue.size()));
    count = std::min<int64_t>(count, std::ssize(queue));
    const auto higher = [](const auto& a, const auto& b) { return a.first > b.first; };
    if (count * 64 <= std::ssize(queue)) {
      std::partial_sort(queue.begin(), queue.begin() + count, queue.end(), higher);
    } else {
      std::nth_element(queue.begin(), queue.begin() + count - 1, queue.end(), higher);
    }
    best.clear();
    for (int64_t i = 0; i < count; ++i) {
      if (queue[static_cast<size_t>(i)].first > -INFINITY) best.push_back(queue[static_cast<size_t>(i)].second);
    }
    std::sort(best.begin(), best.end());
  }
};

class TorchTiesBackend : public test::ProbeBackend {
 public:
  TorchTiesBackend() : ProbeBackend(probe_) {}
  std::unique_ptr<Ops> make_ops(Compute compute, Arena arena) override {
    return std::make_unique<TorchTiesOps>(precision(compute), std::move(arena));
  }

 private:
  test::Probe probe_;
};

// How a case is run: on which backend, in which arithmetic, and how near the reference it must come.
struct Mode {
  const char* name;
  std::unique_ptr<Backend> (*backend)();
  Compute compute;
  double max_nmse;
};

// Made cases run one shard a core.
int threads() { return std::getenv("BAIZE_VARIANTS") == nullptr ? 2 : 1; }

const Mode kModes[] = {
    {"Ref", make_ref_backend, Compute::kExact, 1e-6},
    {"Cpu", [] { return make_cpu_backend(threads()); }, Compute::kExact, 1e-6},
    {"CpuAuto", [] { return make_cpu_backend(threads()); }, Compute::kAuto, 1e-3},
};

// Runs one case; each check says what is wrong, or nothing.
class GoldenRun {
 public:
  GoldenRun(const Mode& mode, const std::string& folder)
      : max_nmse_(mode.max_nmse),
        folder_(folder),
        golden_(load(folder_)),
        backend_(mode.backend()),
        harness_(folder_, *backend_, mode.compute, max_tokens()) {
    const std::string name = name_of(folder);
    const bool amx = backend_->info().name.find("amx") != std::string::npos;
    const bool made = !folder.starts_with(BAIZE_GOLDENS_DIR);
    if (mode.compute == Compute::kAuto && made) max_nmse_ = amx ? kNearTieNmse : kVariantNmse;
    if (mode.compute == Compute::kAuto && has_near_tie(name, amx)) max_nmse_ = kNearTieNmse;
    if (has_exact_ties(name)) replace_golden();
  }

  std::string whole() {
    const int whole_text[] = {static_cast<int>(golden_.long_ids.size())};
    return wrong_ + judge("prompt", prompt_logits(harness_), golden_.logits) +
           judge("long prompt", long_logits(harness_, whole_text), golden_.long_logits);
  }

  std::string chunks() {
    const bool dynamic = read_file(folder_ + "/config.json").find("\"dynamic\"") != std::string::npos;
    if (dynamic) return {};  // angles follow the length seen: only one piece is defined
    std::vector<int> singles(27, 1);
    singles[0] = static_cast<int>(golden_.long_ids.size()) - 26;
    std::vector<int> uneven;
    for (int left = static_cast<int>(golden_.long_ids.size()); left > 0;) {
      for (const int chunk : {7, 1, 30, 2, 50, 6}) {
        if (left > 0) uneven.push_back(std::min(chunk, left));
        left -= chunk;
      }
    }
    std::string wrong = judge("single tokens", long_logits(harness_, singles), golden_.long_logits);
    return wrong + judge("uneven chunks", long_logits(harness_, uneven), golden_.long_logits);
  }

  std::string continuation() {
    if (!golden_.consistent) return {};  // the reference's own cache disagrees with its full pass
    harness_.reset();
    const size_t vocab = golden_.logits.size() / golden_.input_ids.size();
    std::vector<float> logits = harness_.feed(golden_.input_ids);
    std::vector<Token> generated;
    while (generated.size() < golden_.generated.size()) {
      const auto last = logits.end() - static_cast<int64_t>(vocab);
      generated.push_back(static_cast<Token>(std::max_element(last, logits.end()) - last));
      logits = harness_.feed(std::span(&generated.back(), 1));
    }
    return generated == golden_.generated ? "" : "other tokens were generated; ";
  }

 private:
  int64_t max_tokens() const { return std::max<int64_t>(128, std::ssize(golden_.long_ids)); }

  // The archive's logits are those of the reference's accident: they are compared with a pass that has it too, and the
  // other runs with a whole pass of our own reference.
  void replace_golden() {
    const int whole_text[] = {static_cast<int>(golden_.long_ids.size())};
    TorchTiesBackend torch;
    test::Harness like_torch(folder_, torch, Compute::kExact, max_tokens());
    wrong_ = judge("torch's prompt", prompt_logits(like_torch), golden_.logits) +
             judge("torch's long prompt", long_logits(like_torch, whole_text), golden_.long_logits);
    const auto ref = make_ref_backend();
    test::Harness own(folder_, *ref, Compute::kExact, max_tokens());
    golden_.logits = prompt_logits(own);
    golden_.long_logits = long_logits(own, whole_text);
    golden_.consistent = false;
  }
  std::vector<float> prompt_logits(test::Harness& harness) const {
    harness.reset();
    return harness.feed(golden_.input_ids);
  }
  std::string judge(const char* what, std::span<const float> got, std::span<const float> want) const {
    const double error = nmse(got, want);
    return error <= max_nmse_ ? "" : std::string(what) + ": NMSE " + std::to_string(error * 1e6) + "e-6; ";
  }
  // Logits of the last 8 positions of the long prompt, fed in chunks.
  std::vector<float> long_logits(test::Harness& harness, std::span<const int> chunks) const {
    harness.reset();
    std::vector<float> all;
    size_t at = 0;
    for (const int chunk : chunks) {
      const auto part = harness.feed(std::span(golden_.long_ids).subspan(at, static_cast<size_t>(chunk)));
      all.insert(all.end(), part.begin(), part.end());
      at += static_cast<size_t>(chunk);
    }
    EXPECT_EQ(at, golden_.long_ids.size());
    return {all.end() - static_cast<int64_t>(golden_.long_logits.size()), all.end()};
  }

  std::string wrong_;
  double max_nmse_;
  std::string folder_;
  Golden golden_;
  std::unique_ptr<Backend> backend_;
  test::Harness harness_;
};

class GoldenTest : public testing::TestWithParam<std::tuple<Mode, std::string>> {
 protected:
  const Mode& mode() const { return std::get<0>(GetParam()); }
  const std::string& folder() const { return std::get<1>(GetParam()); }
};

TEST_P(GoldenTest, MatchesTheReference) {
  std::string wrong;
  try {
    GoldenRun run(mode(), folder());
    wrong = run.whole();
    wrong += run.chunks();
    if (mode().compute == Compute::kExact) wrong += run.continuation();  // else near ties may fall the other way
  } catch (const Error& error) {
    wrong = error.what();
  }
  if (is_pending(name_of(folder()))) {
    EXPECT_TRUE(wrong != "" || mode().max_nmse > 1e-6) << "passes: take it off golden_pending.txt";
  } else {
    EXPECT_EQ(wrong, "");
  }
}

std::string case_name(const testing::TestParamInfo<std::tuple<Mode, std::string>>& param) {
  std::string name = std::string(std::get<0>(param.param).name) + "_" + name_of(std::get<1>(param.param));
  for (char& c : name) {
    if (c == '+' || c == '-' || c == '@') c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Families, GoldenTest,
                         testing::Combine(testing::ValuesIn(kModes), testing::ValuesIn(all_cases(BAIZE_GOLDENS_DIR))),
                         case_name);
INSTANTIATE_TEST_SUITE_P(SlowVariants, GoldenTest,
                         testing::Combine(testing::ValuesIn(kModes),
                                          testing::ValuesIn(all_cases(std::getenv("BAIZE_VARIANTS")))),
                         case_name);

}  // namespace
}  // namespace baize
