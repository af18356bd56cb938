// Generation: the task behind every request that asks for answers: makes the prompts, submits them to the engine,
// carries what comes back into the reply. The same for all dialects and for streams. The server's thread;
// begin_generation may run on any.
#pragma once

#include <memory>

#include "serve/answer_format.h"
#include "serve/http.h"
#include "serve/params.h"
#include "serve/served_model.h"

namespace baize::serve {

/// A prompt as the engine gets it.
struct TokenPrompt {
  std::vector<Token> ids;
  ReasoningSplitter::Start start = ReasoningSplitter::Start::kAnswer;
};

/// The rendered conversation.
std::string render_chat(const ServedModel& model, const ApiParams& params);

TokenPrompt chat_prompt(const ServedModel& model, const ApiParams& params);
TokenPrompt text_prompt(const ServedModel& model, const Prompt& prompt, bool add_special);

/// Throws ApiError and Error when the request cannot be answered.
std::unique_ptr<Task> begin_generation(const ServedModel& model, ApiParams params, Dialect dialect, double received,
                                       const Wake& wake);

}  // namespace baize::serve
