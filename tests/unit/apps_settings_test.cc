// Settings of a chat by name, and what checkpoints say about generating.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/chat_settings.h"
#include "apps/checkpoint_defaults.h"
#include "apps/table.h"
#include "unit/expect_error.h"
#include "unit/model_files.h"
#include "unit/temp_folder.h"

namespace baize::apps {
namespace {

using test::expect_error;

std::string value_of(const ChatSettings& settings, const std::string& name) {
  for (const SettingLine& line : list_settings(settings)) {
    if (line.name == name) return line.value;
  }
  return "missing";
}

TEST(ChatSettings, EverySettingCanBeChangedAndRead) {
  ChatSettings settings;
  const std::pair<const char*, const char*> changes[] = {
      {"temperature", "0.5"}, {"top_k", "7"},          {"repetition_penalty", "1.1"}, {"penalty_window", "64"},
      {"system", "Be brief"}, {"think", "off"},        {"seed", "9007199254740991"},  {"max_tokens", "12"},
      {"min_tokens", "3"},    {"stop", "[\"\\n\\n\"]"}};
  for (const auto& [name, value] : changes) {
    EXPECT_NE(value_of(settings, name), value) << name;
    change_setting(settings, name, name == std::string("stop") ? "\n\n" : value);
    EXPECT_EQ(value_of(settings, name), value) << name;
  }
  for (const char* name : {"system", "seed", "max_tokens", "stop"}) {
    change_setting(settings, name, "off");
    EXPECT_EQ(value_of(settings, name), "off");
  }
  EXPECT_FLOAT_EQ(settings.sampling.temperature, 0.5f);
  EXPECT_EQ(list_settings(settings).size(), sampling_fields().size() - 1 + 6);
}

TEST(ChatSettings, RefusesWhatMakesNoSense) {
  ChatSettings settings;
  const auto refused = [&](const char* name, const char* value, std::initializer_list<std::string> words) {
    expect_error(ErrorKind::kInvalidArgument, words, [&] { change_setting(settings, name, value); });
  };
  refused("temprature", "1", {"temprature", "temperature"});
  refused("temperature", "warm", {"number", "warm"});
  refused("temperature", "-1", {"0 to 100"});
  refused("top_k", "1.5", {"whole number"});
  refused("think", "maybe", {"on, off or auto"});
  refused("max_tokens", "0", {"1 to"});
  refused("max_tokens", "1e300", {"max_tokens"});
  refused("seed", "-4", {"seed"});
  expect_error(ErrorKind::kInvalidArgument, {"NAME=VALUE"}, [&] { add_variable(settings, "=x"); });
}

TEST(ChatSettings, VariablesAreJsonOrText) {
  ChatSettings settings;
  add_variable(settings, "a=true");
  add_variable(settings, "b=2026-01-31");
  add_variable(settings, "c={\"x\": [1]}");
  EXPECT_EQ(settings.variables["a"], "true");
  EXPECT_EQ(settings.variables["b"], "\"2026-01-31\"");
  EXPECT_EQ(settings.variables["c"], "{\"x\": [1]}");
}

// A checkpoint with these files and no tensors.
std::shared_ptr<const Checkpoint> folder_with(const test::TempFolder& folder, const char* config,
                                              const char* generation) {
  folder.write("config.json", config);
  if (generation != nullptr) folder.write("generation_config.json", generation);
  folder.write("model.safetensors", test::safetensors_file("{}", ""));
  return open_checkpoint(folder.path().string());
}

TEST(CheckpointDefaults, OfAHuggingFaceFolder) {
  const test::TempFolder folder;
  const auto both = folder_with(folder, R"({"eos_token_id": 9})",
                                R"({"eos_token_id": [5, 7, 5], "temperature": 0.6, "top_k": 20, "top_p": 0.9})");
  const CheckpointDefaults defaults = checkpoint_defaults(*both);
  EXPECT_EQ(defaults.stop_ids, (std::vector<Token>{5, 7}));
  EXPECT_FLOAT_EQ(defaults.sampling.temperature, 0.6f);
  EXPECT_EQ(defaults.sampling.top_k, 20);
  EXPECT_FLOAT_EQ(defaults.sampling.top_p, 0.9f);

  const test::TempFolder bare;
  const CheckpointDefaults usual = checkpoint_defaults(*folder_with(bare, R"({"eos_token_id": 9})", nullptr));
  EXPECT_FLOAT_EQ(usual.sampling.temperature, 0.7f);
}

TEST(CheckpointDefaults, OffValuesSayNothingAndGreedyIsGreedy) {
  const test::TempFolder folder;
  const auto checkpoint =
      folder_with(folder, "{}", R"({"do_sample": false, "top_k": -1, "temperature": 0.6, "eos_token_id": null})");
  const CheckpointDefaults defaults = checkpoint_defaults(*checkpoint);
  EXPECT_EQ(defaults.sampling.temperature, 0);
  EXPECT_EQ(defaults.sampling.top_k, 0);
  EXPECT_TRUE(defaults.stop_ids.empty());
}

TEST(CheckpointDefaults, OfAGgufFile) {
  const test::TempFolder folder;
  test::GgufBuilder builder;
  builder.set("general.architecture", "llama").set("general.sampling.temp", 0.25f).set("general.sampling.top_k", 30);
  builder.set<uint32_t>("tokenizer.ggml.eos_token_id", 2).set<uint32_t>("tokenizer.ggml.eot_token_id", 7);
  builder.tensor("x", {1}, 0, std::string(4, '\0'));
  const CheckpointDefaults defaults =
      checkpoint_defaults(*open_checkpoint(folder.write("model.gguf", builder.bytes())));
  EXPECT_EQ(defaults.stop_ids, (std::vector<Token>{2, 7}));
  EXPECT_FLOAT_EQ(defaults.sampling.temperature, 0.25f);
  EXPECT_EQ(defaults.sampling.top_k, 30);
}

TEST(Table, AlignsColumns) {
  Table table({"NAME", ">SIZE"});
  EXPECT_EQ(table.text(), "");
  table.add({"a", "1"});
  table.add({"longer", "1000"});
  EXPECT_EQ(table.text(), "NAME    SIZE\na          1\nlonger  1000\n");
}

}  // namespace
}  // namespace baize::apps
