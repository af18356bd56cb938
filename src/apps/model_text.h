// ModelText: the text side of a checkpoint: its tokenizer, chat template and end tokens, from a GGUF file's vocabulary
// or the files beside a Hugging Face model. Immutable after opening; any thread.
#pragma once

#include <vector>

#include "formats/checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace baize::apps {

struct ModelText {
  Tokenizer tokenizer;
  ChatTemplate chat;
  std::vector<Token> end_tokens;  // of the checkpoint and of the vocabulary; ascending
};

/// Throws Error(kNotFound) when the model has no tokenizer, and the errors of Tokenizer and ChatTemplate.
ModelText open_text(const Checkpoint& checkpoint);

}  // namespace baize::apps
