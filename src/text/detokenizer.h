// Detokenizer: turns the tokens of one answer into text as they come, never giving half a character. What push and
// flush return, joined, is what Tokenizer::decode gives for all tokens at once. Belongs to one thread; the tokenizer
// must outlive it.
#pragma once

#include <string>

#include "base/ids.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace baize {

class Detokenizer {
 public:
  struct Options {
    bool show_special = false;    // special tokens appear as they are spelt
    bool continues_text = false;  // the tokens follow a text, so a leading space belongs to them
  };

  explicit Detokenizer(const Tokenizer& tokenizer) : Detokenizer(tokenizer, Options{}) {}
  Detokenizer(const Tokenizer& tokenizer, Options options)
      : tokenizer_(&tokenizer), options_(options), first_(!options.continues_text) {}

  /// The text that `id` completes, often empty or more than one character.
  std::string push(Token id);

  /// The rest: U+FFFD if a character is unfinished. The next token begins a new text.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  Options options_;
  bool first_;
  Utf8Stream stream_;
};

}  // namespace baize
