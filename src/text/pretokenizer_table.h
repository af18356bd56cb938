// The pre-tokenizers of byte-level BPE vocabularies: how a text is cut into words before merging, by the name that a
// GGUF file gives (tokenizer.ggml.pre). Immutable static data; any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace baize {

/// One cut through the text; each step cuts the words of the step before.
struct PreTokenizerStep {
  enum Kind {
    kRegex,        // every match of `pattern` (Oniguruma) is a word of its own
    kDigit,        // every digit is a word
    kDigitRun,     // every run of digits is a word
    kPunctuation,  // every run of punctuation is a word
    kGpt2,         // GPT-2's regex; then bytes become letters, so later steps see those
  } kind;
  std::string_view pattern = {};
};

/// What the name of a pre-tokenizer implies.
struct PreTokenizer {
  std::string_view names;  // GGUF names, separated by spaces
  std::vector<PreTokenizerStep> steps = {};
  bool nfc = false;            // the text is brought to Unicode's NFC first
  bool ignore_merges = false;  // a word that is in the vocabulary is one token, whatever the merges say
  bool add_bos = false;        // where the file does not say
  bool add_sep = false;        // a separator ends the text, where the file does not say
  bool byte_level = true;      // false: tokens are text with U+2581 for spaces, and bytes as <0xAB>
};

/// The algorithms behind a GGUF vocabulary (tokenizer.ggml.model).
enum class VocabModel {
  kRanks,     // BPE by ranked merges over the pre-tokenizer's words
  kRawRanks,  // the same over text with U+2581 for spaces, whatever pre-tokenizer the file names
  kScores,    // SentencePiece BPE: merges by the scores of their results
  kWordPiece,
  kUnigram,
};

/// Throws Error(kUnsupported) with the known names.
VocabModel find_vocab_model(std::string_view name);

/// GGUF's name of a model.
std::string_view vocab_model_name(VocabModel model);

/// Every pre-tokenizer, in no particular order.
std::span<const PreTokenizer> pre_tokenizers();

/// The one of this name; empty stands for "default". Throws Error(kUnsupported) with the closest known names.
const PreTokenizer& find_pre_tokenizer(std::string_view name);

/// As a JSON text for tokenizer.json's "pre_tokenizer".
std::string pre_tokenizer_json(const PreTokenizer& pre_tokenizer);

}  // namespace baize
