// The tokenizer of a folder as a GGUF vocabulary: the other way round than Tokenizer::from_gguf reads one. What is
// exported is read back and must split a text of many scripts as the folder's own tokenizer does; the name of the
// pre-tokenizer is found that way, too. Pure functions; any thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "text/gguf_vocab.h"

namespace baize {

/// Owns what a GgufVocab views.
struct ExportedVocab {
  std::string model, pre;
  std::vector<std::string> tokens;  // [vocabulary]
  std::vector<float> scores;        // [vocabulary] or empty
  std::vector<int64_t> types;       // [vocabulary]
  std::vector<std::string> merges;
  std::map<std::string, std::optional<Token>> ids;  // "bos", "eos", "unknown", "seperator", ... as GGUF spells them
  bool add_bos = false, add_eos = false;
  std::optional<bool> add_space_prefix;
  std::map<std::string, std::string> chat_templates;  // by name; the usual one is "default"

  GgufVocab view() const;
};

/// `size`: rows of the embedding table; what the tokenizer has no token for is filled up with unused ones.
/// Throws Error(kNotFound) without a tokenizer.json, Error(kUnsupported) for a tokenizer that GGUF cannot say.
ExportedVocab export_vocab(const std::string& folder, int64_t size);

}  // namespace baize
