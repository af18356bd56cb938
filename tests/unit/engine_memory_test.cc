// Memory plans: what a dry run counts is what a real run uses, and what does not fit is refused with the numbers.
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
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

}  // namespace
}  // namespace baize
