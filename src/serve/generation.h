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

/// What a route tells of a request beside its parameters.
struct GenerationCall {
  Dialect dialect;
  std::unique_ptr<AnswerFormat> (*format)(FormatInfo);  // of that dialect
  double received;                                      // base/clock.h
  LabelledCounter& errors;                              // counts a failure by its code; outlives the task
};

/// Throws ApiError and Error when the request cannot be answered. An answer that fails later, for whatever reason, ends
/// with the dialect's error; that is logged and counted, and no other request notices.
std::unique_ptr<Task> begin_generation(const ServedModel& model, ApiParams params, const GenerationCall& call,
                                       const Wake& wake);

}  // namespace baize::serve
