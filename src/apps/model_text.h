// open_text: the text side of a checkpoint, from a GGUF file's vocabulary or the files beside a Hugging Face model. Any
// thread.
#pragma once

#include "formats/checkpoint.h"
#include "text/model_text.h"

namespace baize::apps {

/// Throws Error(kNotFound) when the model has no tokenizer, and the errors of Tokenizer and ChatTemplate.
ModelText open_text(const Checkpoint& checkpoint);

}  // namespace baize::apps
