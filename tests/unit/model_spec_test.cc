// Specs: what each family reads out of a checkpoint's metadata, the text form, and what contradictions are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "backend/ref/ref_backend.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "model/family.h"
#include "model/model.h"
#include "model/rope.h"
#include "model/state.h"

namespace baize {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

std::string golden(const std::string& name) { return std::string(BAIZE_GOLDENS_DIR) + "/" + name; }

ModelSpec spec_of(const std::string& name, int64_t context = 0) {
  return make_spec(*open_checkpoint(golden(name)), context);
}

// A copy of a golden case with changed config.json keys (null removes one), in a folder of its own.
class EditedCase {
 public:
  EditedCase(const std::string& name, const Json& patch) {
    fs::create_directories(folder_);
    fs::copy(golden(name) + "/model.safetensors", folder_ / "model.safetensors");
    Json config = parse_json(read_file(golden(name) + "/config.json"), name);
    config.merge_patch(patch);
    std::ofstream(folder_ / "config.json") << config.dump();
  }
  ~EditedCase() { fs::remove_all(folder_); }
  EditedCase(const EditedCase&) = delete;
  EditedCase& operator=(const EditedCase&) = delete;

  std::shared_ptr<const Checkpoint> open() const { return open_checkpoint(folder_.string()); }

 private:
  static fs::path fresh() {
    static int count = 0;
    return fs::temp_directory_path() / ("baize_spec_" + std::to_string(getpid()) + "_" + std::to_string(count++));
  }
  fs::path folder_ = fresh();
};

// What opening, reading and binding an edited case throws.
Error error_of(const std::string& name, const Json& patch) {
  const EditedCase edited(name, patch);
  try {
    const auto backend = make_ref_backend();
    const auto checkpoint = edited.open();
    bind(checkpoint, make_spec(*checkpoint), *backend, {});
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error for " << patch.dump();
  return Error(ErrorKind::kCorrupt, "");
}

TEST(Spec, PrintsAndParsesEveryFamily) {
  for (const char* name :
       {"llama+rope_llama3", "mistral", "qwen2+yarn", "qwen3", "gemma2+caps", "gemma3_text+linear", "phi3+longrope",
        "llama+rope_dynamic", "zamba", "zamba2", "gemma3n_text", "doge", "jetmoe", "minimax"}) {
    const ModelSpec spec = spec_of(name);
    EXPECT_EQ(parse_spec(print_spec(spec)), spec) << name;
  }
  EXPECT_THROW(parse_spec("{\"dims\": 3}"), Error);
  EXPECT_THROW(parse_spec("nonsense"), Error);
}

TEST(Spec, Gemma2HasSandwichNormsSoftcapsAndAlternatingWindows) {
  const ModelSpec spec = spec_of("gemma2+caps");
  EXPECT_FLOAT_EQ(spec.embed.alpha, std::sqrt(32.0f));
  EXPECT_FLOAT_EQ(spec.head.softcap, 3);
  EXPECT_TRUE(spec.head.tied);
  ASSERT_EQ(spec.layers.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    const auto& attention = std::get<AttnSpec>(spec.layers[i].sub[0].block);
    EXPECT_EQ(attention.window, i == 1 ? 0 : 8);
    EXPECT_FLOAT_EQ(attention.softcap, 5);
    EXPECT_FLOAT_EQ(attention.scale, 1 / std::sqrt(24.0f));
    EXPECT_TRUE(spec.layers[i].sub[0].post.present && spec.layers[i].sub[0].post.plus_one);
  }
}

TEST(Spec, WindowsMakeTheirOwnStateNeeds) {
  const Precision precision;
  const auto needs = state_needs(spec_of("qwen2+window"), precision);
  ASSERT_EQ(needs.size(), 3u);
  EXPECT_EQ(needs[0].kind, StateNeed::Kind::kPerToken);
  EXPECT_EQ(needs[1].kind, StateNeed::Kind::kWindow);
  EXPECT_EQ(needs[1], needs[2]);
  EXPECT_EQ(needs[1].window, 8);
  EXPECT_EQ(needs[1].bytes, 2 * 2 * 8 * 4);  // keys and values of 2 heads of 8 in f32
}

TEST(Spec, ContextChoosesLongropeFactors) {
  const auto factors = [](int64_t context) {
    return std::get<AttnSpec>(spec_of("phi3+longrope", context).layers[0].sub[0].block).rope.factors;
  };
  EXPECT_THAT(factors(0), testing::ElementsAre(1.5f, 1.7f, 1.9f, 2.1f));
  EXPECT_THAT(factors(16), testing::ElementsAre(1.0f, 1.05f, 1.1f, 1.15f));
}

TEST(Rope, Llama3KeepsShortWavesAndSlowsLongOnes) {
  RopeSpec spec;
  spec.kind = RopeSpec::Kind::kLlama3;
  spec.rot_dim = 64;
  spec.theta = 500000;
  spec.factor = 8;
  spec.original_length = 8192;
  const auto scaled = inverse_frequencies(spec);
  spec.kind = RopeSpec::Kind::kDefault;
  const auto plain = inverse_frequencies(spec);
  EXPECT_FLOAT_EQ(scaled.front(), plain.front());
  EXPECT_FLOAT_EQ(scaled.back(), plain.back() / 8);
  EXPECT_TRUE(std::is_sorted(scaled.rbegin(), scaled.rend()));
}

// The decoder of a checkpoint with towers: its configuration lies one level down and leaves out what is usual.
TEST(Spec, Gemma3DecoderInsideAMultimodalConfig) {
  const EditedCase edited("gemma3_text", {{"architectures", {"Gemma3ForConditionalGeneration"}},
                                          {"text_config",
                                           {{"hidden_size", 2560},
                                            {"intermediate_size", 10240},
                                            {"num_hidden_layers", 34},
                                            {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                                            {"sliding_window", 1024}}}});
  const ModelSpec spec = make_spec(*edited.open());
  EXPECT_EQ(spec.layers.size(), 34u);
  const auto& local = std::get<AttnSpec>(spec.layers[4].sub[0].block);
  const auto& global = std::get<AttnSpec>(spec.layers[5].sub[0].block);
  EXPECT_EQ(local.heads, 8);
  EXPECT_EQ(local.window, 1024);
  EXPECT_EQ(local.rope.theta, 10000);
  EXPECT_EQ(local.rope.kind, RopeSpec::Kind::kDefault);
  EXPECT_EQ(global.window, 0);
  EXPECT_EQ(global.rope.theta, 1e6f);
  EXPECT_EQ(global.rope.factor, 8);
}

TEST(BadCheckpoint, UnknownArchitectureNamesTheClosest) {
  const Error e = error_of("llama", {{"architectures", {"LlamaForCasualLM"}}});
  EXPECT_EQ(e.kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(e.what(), HasSubstr("\"LlamaForCasualLM\" is not known; the closest known names are LlamaForCausalLM"));
  EXPECT_THAT(error_of("llama", {{"architectures", nullptr}}).what(), HasSubstr("names no architecture"));
}

TEST(BadCheckpoint, ConfigThatContradictsTheTensors) {
  EXPECT_THAT(error_of("llama", {{"intermediate_size", 64}}).what(),
              HasSubstr("has shape [48, 32], but the configuration asks for [64, 32]"));
  EXPECT_THAT(error_of("llama", {{"num_hidden_layers", 4}}).what(), HasSubstr("layers.3."));
  EXPECT_THAT(error_of("llama", {{"num_hidden_layers", 2}}).what(), HasSubstr("belongs to no mechanism"));
  EXPECT_THAT(error_of("llama", {{"vocab_size", 100}}).what(), HasSubstr("[100, 32]"));
  EXPECT_THAT(error_of("qwen3", {{"architectures", {"LlamaForCausalLM"}}}).what(), HasSubstr("k_norm"));
}

TEST(BadCheckpoint, ValuesOutOfRange) {
  EXPECT_THAT(error_of("llama", {{"num_hidden_layers", "three"}}).what(),
              HasSubstr("\"num_hidden_layers\" is \"three\"; it must be a whole number"));
  EXPECT_THAT(error_of("llama", {{"num_hidden_layers", -1}}).what(), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(error_of("llama", {{"num_hidden_layers", 1e30}}).what(), HasSubstr("num_hidden_layers"));
  EXPECT_THAT(error_of("llama", {{"hidden_size", nullptr}}).what(), HasSubstr("\"hidden_size\" is missing"));
  EXPECT_THAT(error_of("llama", {{"num_attention_heads", 0}}).what(),
              HasSubstr("must be a whole number of at least 1"));
  EXPECT_THAT(error_of("llama", {{"num_key_value_heads", 3}}).what(), HasSubstr("shared evenly"));
  EXPECT_THAT(error_of("llama", {{"hidden_act", "sine"}}).what(), HasSubstr("activation \"sine\""));
  EXPECT_THAT(error_of("llama", {{"rope_parameters", {{"rope_type", "spiral"}}}}).what(), HasSubstr("spiral"));
  EXPECT_THAT(error_of("llama+rope_linear", {{"rope_scaling", {{"factor", 0}}}}).what(), HasSubstr("factor 0"));
  EXPECT_THAT(error_of("phi3+longrope", {{"rope_scaling", {{"long_factor", {1, 2}}}}}).what(),
              HasSubstr("must hold 4 positive numbers"));
  EXPECT_THAT(error_of("phi3+partial", {{"partial_rotary_factor", 0.01}}).what(), HasSubstr("rotary"));
  EXPECT_THAT(error_of("gemma2", {{"layer_types", {"full_attention"}}}).what(), HasSubstr("one entry a layer"));
}

// No family divides, or makes lists, by a number that it did not look at.
TEST(BadCheckpoint, EveryNumberOfEveryFamilyMayBeWrong) {
  const fs::path folder = fs::temp_directory_path() / ("baize_numbers_" + std::to_string(getpid()));
  fs::create_directories(folder);
  int refused = 0;
  for (const auto& entry : fs::directory_iterator(BAIZE_GOLDENS_DIR)) {
    const Json config = parse_json(read_file(entry.path() / "config.json"), entry.path().string());
    fs::create_symlink(entry.path() / "model.safetensors", folder / "model.safetensors");
    for (const auto& [key, value] : config.items()) {
      if (!value.is_number()) continue;
      for (const int64_t wrong : {int64_t{0}, int64_t{1}, int64_t{1} << 40}) {
        Json edited = config;
        edited[key] = wrong;
        std::ofstream(folder / "config.json") << edited;
        try {
          const ModelSpec spec = make_spec(*open_checkpoint(folder.string()));
          for (const StateNeed& need : state_needs(spec, Precision())) {
            EXPECT_GT(need.bytes, 0) << entry.path() << " " << key << " = " << wrong;
          }
        } catch (const Error& e) {
          EXPECT_THAT(e.what(), Not(HasSubstr("std::"))) << entry.path() << " " << key;
          ++refused;
        }
      }
    }
    fs::remove(folder / "model.safetensors");
  }
  fs::remove_all(folder);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace baize
