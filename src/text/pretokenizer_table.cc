#include "text/pretokenizer_table.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

// The patterns are those of the models' own tokenizer.json files, which is why they differ in ways that look
// accidental. To add one: take the steps of "pre_tokenizer" in its tokenizer.json, see docs/text.md.

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define WORD R"([^\r\n\p{L}\p{N}]?\p{L}+)"
#define SYMBOLS R"( ?[^\s\p{L}\p{N}]+[\r\n]*)"
#define SYMBOLS_SLASH R"( ?[^\s\p{L}\p{N}]+[\r\n/]*)"
// A word whose capitals come first, as in "GPTModel" -> "GPTModel", "gptModel" -> "gpt", "Model".
#define LOWER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
#define UPPER_WORD R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
#define CASED_WORDS LOWER_WORD CONTRACTIONS "?|" UPPER_WORD CONTRACTIONS "?"
#define DEEPSEEK_WORDS                                                                       \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)" \
  R"( ?[\p{P}\p{S}]+[\r\n]*|)" SPACES
#define CJK "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define BLOOM_WORDS R"( ?[^(\s|.,!?…。，、।۔،)]+)"

namespace baize {
namespace {

constexpr std::string_view kLlama3 = CONTRACTIONS "|" WORD R"(|\p{N}{1,3}|)" SYMBOLS "|" SPACES;
constexpr std::string_view kQwen2 = CONTRACTIONS "|" WORD R"(|\p{N}|)" SYMBOLS "|" SPACES;
constexpr std::string_view kQwen35 =
    CONTRACTIONS R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" SPACES;
constexpr std::string_view kSeedCoder = CONTRACTIONS "|" WORD R"(|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)" SPACES;
constexpr std::string_view kGpt4o = CASED_WORDS R"(|\p{N}{1,3}|)" SYMBOLS_SLASH "|" SPACES;
constexpr std::string_view kYoutu = CASED_WORDS R"(|\p{N}|)" SYMBOLS_SLASH "|" SPACES;
constexpr std::string_view kTekken = LOWER_WORD "|" UPPER_WORD R"(|\p{N}|)" SYMBOLS_SLASH "|" SPACES;
constexpr std::string_view kMinicpm5 = CONTRACTIONS "|" WORD R"(|\p{N}+|)" SYMBOLS "|" SPACES;
constexpr std::string_view kJais2 = CONTRACTIONS
    "|" WORD R"(|\p{N}{1,3}|)" SYMBOLS
    R"(|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|)"
    R"(\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})";
constexpr std::string_view kExaoneMoe = CONTRACTIONS
    R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
// As kGpt4o, but Han characters are words of their own.
constexpr std::string_view kKimi =
    R"([\p{Han}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)" CONTRACTIONS
    R"(?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)" CONTRACTIONS
    R"(?|\p{N}{1,3}|)" SYMBOLS "|" SPACES;
constexpr std::string_view kAfmoeScripts =
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e00-\u0e7f\u0e80-"
    "\u0eff"
    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+";
constexpr std::string_view kYoutuScripts =
    "[\uac00-\ud7a3\u3131-\u318e]+|[！…“”‘’—：；，\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" CJK;
// Letters that have two cases, as the tokenizer.json of DeepSeek LLM lists them.
constexpr std::string_view kDeepseekLetters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ"
    "Ἐ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲ"
    "ⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
constexpr std::string_view kDeepseekPunctuation = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kDeepseekCjk = "[一-龥\u0800-一가-\ud7ff]+";
constexpr std::string_view kThousands = R"((?=(\d{3})+(?!\d)))";  // the places where 1234567 splits into 1 234 567

using Step = PreTokenizerStep;

const std::vector<PreTokenizer>& table() {
  static const std::vector<PreTokenizer> rows = {
      {.names = "default falcon",
       .steps = {{Step::kPunctuation}, {Step::kGpt2}, {Step::kDigitRun}, {Step::kRegex, "[0-9][0-9][0-9]"}}},
      {.names =
           "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de gigachat a.x-4.0 mellum jais trillion granite-docling "
           "exaone4",
       .steps = {{Step::kGpt2}}},
      {.names = "mpt olmo modern-bert", .steps = {{Step::kGpt2}}, .nfc = true},
      {.names = "jina-v1-en jina-v2-code roberta-bpe", .steps = {{Step::kGpt2}}, .add_bos = true, .add_sep = true},
      {.names = "smollm starcoder refact codeshell exaone minerva-7b mellum2",
       .steps = {{Step::kDigit}, {Step::kGpt2}}},
      {.names = "command-r", .steps = {{Step::kDigit}, {Step::kGpt2}}, .nfc = true},
      {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
       .steps = {{Step::kRegex, kLlama3}},
       .ignore_merges = true,
       .add_bos = true},
      {.names = "dbrx smaug-bpe glm4 chatglm-bpe", .steps = {{Step::kRegex, kLlama3}}},
      {.names = "jais-2", .steps = {{Step::kRegex, kJais2}}},
      {.names = "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez", .steps = {{Step::kRegex, kQwen2}}, .nfc = true},
      {.names = "stablelm2 hunyuan solar-open grok-2", .steps = {{Step::kRegex, kQwen2}}},
      {.names = "qwen35", .steps = {{Step::kRegex, kQwen35}}, .nfc = true},
      {.names = "deepseek-v3 hunyuan-dense joyai-llm",
       .steps = {{Step::kRegex, R"(\p{N}{1,3})"}, {Step::kRegex, CJK}, {Step::kRegex, DEEPSEEK_WORDS}}},
      {.names = "deepseek-llm",
       .steps = {{Step::kRegex, "[\r\n]"},
                 {Step::kRegex, kDeepseekLetters},
                 {Step::kRegex, kDeepseekPunctuation},
                 {Step::kRegex, R"(\s+$)"},
                 {Step::kRegex, kDeepseekCjk},
                 {Step::kDigit}}},
      {.names = "deepseek-coder",
       .steps = {{Step::kRegex, "[\r\n]"},
                 {Step::kRegex, R"(\s?\p{L}+)"},
                 {Step::kRegex, R"(\s?\p{P}+)"},
                 {Step::kRegex, kDeepseekCjk},
                 {Step::kDigit}}},
      {.names = "youtu", .steps = {{Step::kRegex, kYoutuScripts}, {Step::kRegex, kYoutu}}, .ignore_merges = true},
      {.names = "bloom poro-chat gpt3-finnish", .steps = {{Step::kRegex, BLOOM_WORDS}}},
      {.names = "viking", .steps = {{Step::kRegex, BLOOM_WORDS}, {Step::kDigit}}},
      {.names = "tekken", .steps = {{Step::kRegex, kTekken}}, .ignore_merges = true, .add_bos = true},
      {.names = "gpt-4o llama4 kanana2 talkie minimax-m2 granite-embed-multi-97m",
       .steps = {{Step::kRegex, kGpt4o}},
       .ignore_merges = true},
      {.names = "tiny_aya cohere2moe", .steps = {{Step::kRegex, R"(\d{1,3}(?=(?:\d{3})*\b))"}, {Step::kRegex, kGpt4o}}},
      {.names = "kimi-k2", .steps = {{Step::kRegex, kKimi}}, .ignore_merges = true},
      {.names = "superbpe", .steps = {{Step::kRegex, R"(\p{N}+)"}, {Step::kRegex, kThousands}}},
      {.names = "bailingmoe bailingmoe2 llada-moe", .steps = {{Step::kRegex, kBailing}}},
      {.names = "seed-coder", .steps = {{Step::kRegex, kSeedCoder}}},
      {.names = "afmoe",
       .steps = {{Step::kRegex, R"(\p{N}+)"},
                 {Step::kRegex, kThousands},
                 {Step::kRegex, kAfmoeScripts},
                 {Step::kRegex, DEEPSEEK_WORDS}}},
      {.names = "laguna", .steps = {{Step::kRegex, R"([^\n]+|[\n]+)"}, {Step::kRegex, kQwen2}}},
      {.names = "exaone-moe", .steps = {{Step::kRegex, kExaoneMoe}}},
      {.names = "minicpm5",
       .steps = {{Step::kRegex, R"(\p{N}{1,3})"}, {Step::kRegex, kMinicpm5}},
       .ignore_merges = true},
      {.names = "chameleon",
       .steps = {{Step::kRegex, "<sentinel:[0-9]+>"},
                 {Step::kRegex, "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"},
                 {Step::kRegex, R"(([\t\n]|    |  ))"},
                 {Step::kDigit},
                 {Step::kRegex, R"([\p{P}!-/:-@\[-`{-~])"},
                 {Step::kGpt2}},
       .add_bos = true},
      {.names = "gemma4 granite-embed-multi-311m", .add_bos = true, .byte_level = false},
      {.names = "sarvam-moe", .byte_level = false},
  };
  return rows;
}

Json step_json(const PreTokenizerStep& step) {
  switch (step.kind) {
    case PreTokenizerStep::kRegex:
      return {{"type", "Split"}, {"pattern", {{"Regex", step.pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    case PreTokenizerStep::kDigit:
      return {{"type", "Digits"}, {"individual_digits", true}};
    case PreTokenizerStep::kDigitRun:
      return {{"type", "Digits"}, {"individual_digits", false}};
    case PreTokenizerStep::kPunctuation:
      return {{"type", "Punctuation"}, {"behavior", "Contiguous"}};
    case PreTokenizerStep::kGpt2:
      break;
  }
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
}

}  // namespace

namespace {

struct VocabModelName {
  std::string_view name;
  VocabModel model;
};
constexpr VocabModelName kVocabModels[] = {{"bert", VocabModel::kWordPiece},
                                           {"gemma4", VocabModel::kRawRanks},
                                           {"gpt2", VocabModel::kRanks},
                                           {"llama", VocabModel::kScores},
                                           {"t5", VocabModel::kUnigram}};

}  // namespace

std::string_view vocab_model_name(VocabModel model) {
  return std::ranges::find(kVocabModels, model, &VocabModelName::model)->name;
}

VocabModel find_vocab_model(std::string_view name) {
  for (const VocabModelName& row : kVocabModels) {
    if (row.name == name) return row.model;
  }
  fail(ErrorKind::kUnsupported,
       "the tokenizer model '{}' (tokenizer.ggml.model) is not supported; bert, gemma4, gpt2, llama and t5 are", name);
}

std::span<const PreTokenizer> pre_tokenizers() { return table(); }

const PreTokenizer& find_pre_tokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  std::vector<std::string> known;
  for (const PreTokenizer& row : table()) {
    for (std::string_view own : split(row.names, ' ')) {
      if (own == name) return row;
      known.emplace_back(own);
    }
  }
  fail(ErrorKind::kUnsupported,
       "the pre-tokenizer '{}' (tokenizer.ggml.pre) is not known; the closest known ones are {}", name,
       fmt::join(closest_names(name, known), ", "));
}

std::string pre_tokenizer_json(const PreTokenizer& pre_tokenizer) {
  Json steps = Json::array();
  bool has_byte_level = !pre_tokenizer.byte_level;
  for (const PreTokenizerStep& step : pre_tokenizer.steps) {
    steps.push_back(step_json(step));
    has_byte_level |= step.kind == PreTokenizerStep::kGpt2;
  }
  if (!has_byte_level) {
    steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  }
  if (steps.empty()) return "null";
  return Json{{"type", "Sequence"}, {"pretokenizers", steps}}.dump();
}

}  // namespace baize
