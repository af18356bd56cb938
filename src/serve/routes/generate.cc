// /v1/chat/completions and /v1/completions.
#include "serve/generation.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

namespace {

std::unique_ptr<Task> generate(const Api& api, const Request& request, const Wake& wake, Dialect dialect) {
  ApiParams params = parse_params(request.body, dialect);
  const ServedModel& model = find_served(api.models(), params.model);
  const GenerationCall call{.dialect = dialect,
                            .format = dialect == kChat ? chat_format : completion_format,
                            .received = request.received,
                            .errors = api.metrics().errors};
  return begin_generation(model, std::move(params), call, wake);
}

}  // namespace

std::unique_ptr<Task> chat(const Api& api, const Request& request, Reply&, const Wake& wake) {
  return generate(api, request, wake, kChat);
}

std::unique_ptr<Task> completion(const Api& api, const Request& request, Reply&, const Wake& wake) {
  return generate(api, request, wake, kCompletion);
}

}  // namespace baize::serve::routes_impl
