// Memory plans: what a dry run counts is what a real run uses, and what does not fit is refused with the numbers.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "backend/ref/ref_backend.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "model/family.h"
#include "unit/engine_answer.h"
#include "unit/engine_probe.h"
#include "unit/expect_error.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

std::shared_ptr<const Checkpoint> golden(const char* name) {
  return open_checkpoint(std::string(BAIZE_GOLDENS_DIR) + "/" + name);
}

TEST(MemoryPlan, TakesTheCheckpointsContextWhenItFits) {
  test::Probe probe;
  test::ProbeBackend backend(probe);
  const PlannedModel planned = plan_model(golden("llama"), backend, Compute::kExact, {.seqs = 1});
  EXPECT_EQ(planned.memory.limits.context, 256);
  EXPECT_GT(planned.memory.weights, 80000);                              // 40,672 weights in bf16
  EXPECT_EQ(planned.memory.run.cache, (256 + 32) * 3 * 2 * 2 * 16 * 4);  // and a block to copy from
  EXPECT_EQ(planned.memory.run.logits, 16 * 128 * 4);                    // prompts are scored by sixteen rows
  EXPECT_GT(planned.memory.run.arena, 0);
  EXPECT_EQ(plan_model(golden("llama"), backend, Compute::kExact, {.context = 64, .seqs = 1}).memory.limits.context,
            64);
}

TEST(MemoryPlan, CutsTheContextToWhatFitsUnlessItWasAskedFor) {
  const test::TempFolder folder;
  const std::string source = std::string(BAIZE_GOLDENS_DIR) + "/qwen3";
  Json config = parse_json(read_file(source + "/config.json"), "config.json");
  config["max_position_embeddings"] = 4096;
  folder.write("config.json", config.dump());
  folder.write("model.safetensors", read_file(source + "/model.safetensors"));
  const auto checkpoint = open_checkpoint(folder.path().string());

  test::Probe probe;
  test::ProbeBackend backend(probe);
  const auto needed = [&](int64_t context) {
    return plan_model(checkpoint, backend, Compute::kExact, {.context = context, .seqs = 1}).memory.total();
  };
  EXPECT_EQ(needed(0), needed(4096));
  const int64_t enough = needed(1024), too_little = needed(256) - 1;
  backend.free_bytes = enough;
  const PlannedModel cut = plan_model(checkpoint, backend, Compute::kExact, {.seqs = 1});
  EXPECT_EQ(cut.memory.limits.context, 1024);
  EXPECT_EQ(cut.dry->spec.dims.context, 1024);
  EXPECT_EQ(cut.memory.total(), enough);
  test::expect_error(ErrorKind::kResource, {"4096 tokens", "are free", "--ctx 1024 would fit"},
                     [&] { plan_model(checkpoint, backend, Compute::kExact, {.context = 4096, .seqs = 1}); });
  backend.free_bytes = too_little;
  test::expect_error(ErrorKind::kResource, {"does not fit", "smaller model"},
                     [&] { plan_model(checkpoint, backend, Compute::kExact, {.seqs = 1}); });
}

TEST(MemoryPlan, WindowsCapTheCache) {
  test::Probe probe;
  test::ProbeBackend backend(probe);
  const auto cache = [&](const char* name, int64_t context) {
    return plan_model(golden(name), backend, Compute::kExact, {.context = context, .seqs = 1}).memory.run.cache;
  };
  EXPECT_EQ(cache("mistral", 8192), cache("mistral", 4096));  // every layer has a window
  EXPECT_LT(cache("gemma3_text", 8192), 2 * cache("gemma3_text", 4096));
}

// Bytes of a mapped file that are in this process's memory.
int64_t resident_of(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  int64_t bytes = 0;
  bool here = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') < line.find(' ')) here = line.ends_with(path);
    if (here && line.starts_with("Rss:")) bytes += std::stoll(line.substr(4)) * 1024;
  }
  return bytes;
}

// A checkpoint of golden llama's shape, but with so many tokens that their table, zeros all of it, is most of it.
constexpr int64_t kManyTokens = int64_t{1} << 19, kTable = kManyTokens * 32 * 2;

std::shared_ptr<const Checkpoint> with_many_tokens(const test::TempFolder& folder, bool tied) {
  const std::string source = std::string(BAIZE_GOLDENS_DIR) + "/llama";
  Json config = parse_json(read_file(source + "/config.json"), "config.json");
  config["vocab_size"] = kManyTokens;
  config["tie_word_embeddings"] = tied;
  folder.write("config.json", config.dump());
  const std::string file = read_file(source + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  Json header = Json::object();
  std::string data;
  const Json old = parse_json(file.substr(8, length), "model.safetensors");
  for (const auto& [name, stored] : old.items()) {
    if (name == "__metadata__" || (tied && name == "lm_head.weight")) continue;
    const bool table = name == "model.embed_tokens.weight" || name == "lm_head.weight";
    const auto begin = stored["data_offsets"][0].get<size_t>(), end = stored["data_offsets"][1].get<size_t>();
    Json tensor = stored;
    if (table) tensor["shape"][0] = kManyTokens;
    const size_t at = data.size();
    data += table ? std::string(kTable, '\0') : file.substr(8 + length + begin, end - begin);
    tensor["data_offsets"] = {at, data.size()};
    header[name] = tensor;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  length = text.size();
  folder.write("model.safetensors", std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
  return open_checkpoint(folder.path().string());
}

// Of a table that the head reads too, everything stays; of one that is only looked up, little.
TEST(MemoryPlan, CountsATableOfTokensByHowItIsRead) {
  for (const bool tied : {true, false}) {
    const test::TempFolder folder;
    const auto checkpoint = with_many_tokens(folder, tied);
    const auto backend = make_ref_backend();
    const PlannedModel planned =
        plan_model(checkpoint, *backend, Compute::kExact, {.step_rows = 256, .seqs = 1, .cache_tokens = 512});
    constexpr int64_t kOthers = 1 << 20;
    const int64_t looked_up = tied ? 0 : MappedTables::kResidentBytes;
    EXPECT_GE(planned.memory.weights, kTable + looked_up);
    EXPECT_LT(planned.memory.weights, kTable + looked_up + kOthers);

    const std::shared_ptr<const Model> model =
        bind(checkpoint, make_spec(*checkpoint), *backend, {.compute = Compute::kExact});
    EXPECT_EQ(model->resident_bytes, planned.memory.weights);
    Engine engine(model, *backend, Compute::kExact, planned.memory.limits);
    for (Token first = 0; first < 2; ++first) {
      std::vector<Token> prompt;
      for (Token i = 0; i < 250; ++i) prompt.push_back((2 * i + first) * 1024);  // all over the table
      RequestHandle handle = engine.submit(test::greedy(prompt, 1));
      EXPECT_TRUE(test::collect(handle).done);
    }
    const int64_t resident = resident_of((folder.path() / "model.safetensors").string());
    EXPECT_GT(resident, kTable - kOthers) << "tied: " << tied;
    EXPECT_LT(resident, kTable + 4 * kOthers) << "tied: " << tied;
  }
}

}  // namespace
}  // namespace baize
