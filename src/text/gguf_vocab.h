// GgufVocab: what a GGUF file says about its tokenizer, as plain data. Whoever reads the file fills it;
// Tokenizer::from_gguf uses it. The views borrow from the file and need to live only until that call returns. No thread
// of its own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace baize {

/// GGUF's token types (key tokenizer.ggml.token_type).
enum class GgufTokenType : int64_t {
  kUndefined = 0,
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

/// Keys are those of the GGUF specification, below "tokenizer.ggml."; absent keys stay empty.
struct GgufVocab {
  std::string model;                     // model: "gpt2", "llama", "bert", "t5", ...
  std::string pre;                       // pre
  std::vector<std::string_view> tokens;  // tokens, [vocabulary]
  std::vector<float> scores;             // scores, [vocabulary] or empty
  std::vector<int64_t> types;            // token_type, [vocabulary] or empty
  std::vector<std::string_view> merges;  // merges, "left right"
  std::string precompiled_charsmap;      // its bytes

  std::optional<Token> bos, eos, eot, eom, unk, sep, pad, cls, mask;   // *_token_id (sep: seperator_token_id)
  std::optional<bool> add_bos, add_eos, add_sep;                       // add_*_token
  std::optional<bool> add_space_prefix, remove_extra_whitespaces;      // the same names
  std::optional<bool> normalizer_lowercase, normalizer_strip_accents;  // normalizer.lowercase, ...
  std::map<std::string, std::string>
      chat_templates;  // "default": tokenizer.chat_template; NAME: tokenizer.chat_template.NAME
};

}  // namespace baize
