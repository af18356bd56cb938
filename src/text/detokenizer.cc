#include "text/detokenizer.h"

namespace baize {

std::string Detokenizer::push(Token id) {
  std::string text;
  if (!options_.show_special && tokenizer_->is_special(id)) return text;
  stream_.push(tokenizer_->piece(id, first_), text);
  first_ = false;
  return text;
}

std::string Detokenizer::flush() {
  std::string text;
  stream_.flush(text);
  first_ = !options_.continues_text;
  return text;
}

}  // namespace baize
