// ModelText: the text side of a model: its tokenizer, chat template and end tokens. Made by whoever loads a model;
// immutable; any thread.
#pragma once

#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace baize {

struct ModelText {
  Tokenizer tokenizer;
  ChatTemplate chat;
  std::vector<Token> end_tokens;  // of the checkpoint and of the vocabulary; ascending
};

}  // namespace baize
