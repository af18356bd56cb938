// Tokenizer: text to token ids and back, from a folder in the Hugging Face layout or from the vocabulary of a GGUF
// file. Built on the crates of rust/ behind <baize_text.h>. Owned by whoever loads a model; immutable, any number of
// threads may use one at once.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/gguf_vocab.h"

struct baize_tokenizer;

namespace baize {

/// Whether a special token spelt out in a text, such as "<|im_end|>", becomes that token or ordinary text.
enum class SpecialText { kParse, kPlain };

class Tokenizer {
 public:
  /// Reads tokenizer.json and, where present, tokenizer_config.json, special_tokens_map.json and the chat templates in
  /// `folder`. Throws Error(kNotFound) without a tokenizer.json, Error(kCorrupt) naming the file otherwise.
  static Tokenizer from_folder(const std::string& folder);

  /// From a GGUF vocabulary. Throws Error(kUnsupported) for an unknown model or pre-tokenizer, with the known names,
  /// Error(kCorrupt) for arrays that contradict each other.
  static Tokenizer from_gguf(const GgufVocab& vocab);

  /// Ids of `text`; `add_special` puts the begin and end tokens of this vocabulary around them (a text rendered by a
  /// chat template has its own). Throws Error(kInvalidArgument) if `text` is not valid UTF-8.
  std::vector<Token> encode(std::string_view text, bool add_special, SpecialText special) const;

  /// Text of `ids`, special tokens left out unless `show_special`. Bytes that are no character become U+FFFD; ids
  /// without a token add nothing. For tokens as they are made use Detokenizer (text/detokenizer.h), which gives the
  /// same text.
  std::string decode(std::span<const Token> ids, bool show_special = false) const;

  /// The bytes that `id` adds to a text, maybe less than a character; at the beginning of a text some vocabularies drop
  /// a space. Empty for an id without a token.
  std::string piece(Token id, bool first = false) const;

  /// The token as the vocabulary spells it ("Ġhello", "▁hello"); empty for an id without a token.
  std::string token_text(Token id) const;

  /// The id of the token that the vocabulary spells `token`.
  std::optional<Token> id_of(std::string_view token) const;

  /// Whether `id` is a control token, which is not part of the text.
  bool is_special(Token id) const;

  /// One past the highest id. The model's own vocabulary may be larger (padding).
  Token vocab_size() const { return vocab_size_; }

  std::optional<Token> bos() const { return bos_; }
  std::optional<Token> eos() const { return eos_; }

  /// Whether encode with `add_special` begins with bos.
  bool adds_bos() const { return adds_bos_; }

  /// Ids that end an answer as far as the vocabulary knows: end of text, of turn, of message. Ascending.
  const std::vector<Token>& end_tokens() const { return end_tokens_; }

  /// Special tokens by the names that chat templates use: "bos_token" -> "<s>", ...
  const std::map<std::string, std::string>& special_tokens() const { return special_tokens_; }

  /// Sources of the chat templates by name; the usual one is "default". Empty if the model has none.
  const std::map<std::string, std::string>& chat_templates() const { return chat_templates_; }

 private:
  struct Free {
    void operator()(baize_tokenizer* tokenizer) const;
  };

  /// Takes the handle over and asks it what it is.
  explicit Tokenizer(baize_tokenizer* handle);
  /// `ends`: what ends an answer besides eos.
  void set_begin_and_end(std::optional<Token> bos, std::optional<Token> eos, std::vector<Token> ends);

  std::unique_ptr<baize_tokenizer, Free> handle_;
  Token vocab_size_ = 0;
  std::vector<bool> special_;  // [vocab_size]
  std::vector<Token> prefix_;
  std::optional<Token> bos_, eos_;
  bool adds_bos_ = false;
  std::vector<Token> end_tokens_;
  std::map<std::string, std::string> special_tokens_;
  std::map<std::string, std::string> chat_templates_;
};

}  // namespace baize
