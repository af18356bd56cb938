// export_vocab: small tokenizers of both kinds as GGUF vocabularies. Real ones: tests/cli/test_convert.py.
#include "text/gguf_export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "text/tokenizer.h"
#include "unit/expect_error.h"
#include "unit/temp_folder.h"

namespace baize {
namespace {

using test::expect_error;
using test::TempFolder;
using testing::ElementsAre;

Json added(int id, const char* content, bool special) {
  return {{"id", id},        {"content", content}, {"special", special}, {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false}};
}

// A byte-level BPE of a few letters; what it has no letters for is nothing.
Json byte_level() {
  return {
      {"version", "1.0"},
      {"added_tokens", {added(6, "<|end|>", true), added(7, "<tool>", false)}},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", {{"t", 0}, {"h", 1}, {"e", 2}, {"Ġ", 3}, {"th", 4}, {"the", 5}}},
        {"merges", Json::array({"t h", "th e"})}}}};
}

void write(const TempFolder& folder, const Json& tokenizer, const Json& config) {
  folder.write("tokenizer.json", tokenizer.dump());
  folder.write("tokenizer_config.json", config.dump());
}

TEST(GgufExport, ByteLevel) {
  const TempFolder folder;
  write(folder, byte_level(), {{"eos_token", "<|end|>"}, {"chat_template", "{{ messages }}"}});
  const ExportedVocab vocab = export_vocab(folder.path().string(), 10);
  EXPECT_EQ(vocab.model, "gpt2");
  EXPECT_THAT(vocab.tokens, ElementsAre("t", "h", "e", "Ġ", "th", "the", "<|end|>", "<tool>", "[PAD8]", "[PAD9]"));
  EXPECT_THAT(vocab.types, ElementsAre(1, 1, 1, 1, 1, 1, 3, 4, 5, 5));
  EXPECT_THAT(vocab.merges, ElementsAre("t h", "th e"));
  EXPECT_TRUE(vocab.scores.empty());
  EXPECT_EQ(vocab.ids.at("eos"), 6);
  EXPECT_FALSE(vocab.add_bos || vocab.add_eos);
  EXPECT_EQ(vocab.chat_templates.at("default"), "{{ messages }}");
  const Tokenizer read = Tokenizer::from_gguf(vocab.view());
  EXPECT_THAT(read.encode("the<tool> the<|end|>", false, SpecialText::kParse), ElementsAre(5, 7, 3, 5, 6));
}

TEST(GgufExport, RefusesWhatGgufCannotSay) {
  const TempFolder folder;
  const std::string path = folder.path().string();
  expect_error(ErrorKind::kNotFound, {"tokenizer.json"}, [&] { export_vocab(path, 10); });
  write(folder, byte_level(), Json::object());
  expect_error(ErrorKind::kUnsupported, {"8 tokens", "5 rows"}, [&] { export_vocab(path, 5); });
  Json unigram = byte_level();
  unigram["added_tokens"] = Json::array();
  unigram["model"] = {
      {"type", "Unigram"}, {"unk_id", 0}, {"vocab", Json::array({Json::array({"t", -1.0}), Json::array({"h", -2.0})})}};
  write(folder, unigram, Json::object());
  expect_error(ErrorKind::kUnsupported, {"Unigram"}, [&] { export_vocab(path, 10); });
  Json own_way = byte_level();
  own_way["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "[th]"}}}, {"behavior", "Isolated"}, {"invert", false}};
  write(folder, own_way, Json::object());
  expect_error(ErrorKind::kUnsupported, {"none of the pre-tokenizers"}, [&] { export_vocab(path, 10); });
}

}  // namespace
}  // namespace baize
