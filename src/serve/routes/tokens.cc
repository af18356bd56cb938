// /tokenize and /detokenize.
#include <fmt/format.h>

#include "serve/generation.h"
#include "serve/json_text.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

std::unique_ptr<Task> tokenize(const Api& api, const Request& request, Reply& reply, const Wake&) {
  const ApiParams params = parse_params(request.body, kTokenize);
  const ServedModel& model = find_served(api.models(), params.model);
  const std::vector<Token> ids = params.prompts.empty()
                                     ? chat_prompt(model, params).ids
                                     : text_prompt(model, params.prompts.front(), params.add_special_tokens).ids;
  fmt::format_to(std::back_inserter(reply.body), "{{\"count\":{},\"max_model_len\":{},\"tokens\":", ids.size(),
                 model.engine->context());
  append_ids(reply.body, ids.data(), ids.size());
  reply.body += '}';
  return nullptr;
}

std::unique_ptr<Task> detokenize(const Api& api, const Request& request, Reply& reply, const Wake&) {
  const ApiParams params = parse_params(request.body, kDetokenize);
  const ServedModel& model = find_served(api.models(), params.model);
  for (const Token id : *params.tokens) {
    if (id >= model.engine->vocab()) {
      bad_request("tokens", "'tokens' holds {}, but the vocabulary has tokens 0 to {}", id, model.engine->vocab() - 1);
    }
  }
  reply.body = "{\"prompt\":";
  append_json(reply.body, model.text->tokenizer.decode(*params.tokens, true));
  reply.body += '}';
  return nullptr;
}

}  // namespace baize::serve::routes_impl
