// /openapi.json and /docs.
#include <algorithm>

#include "serve/openapi.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

std::unique_ptr<Task> openapi(const Api& api, const Request&, Reply& reply, const Wake&) {
  OpenApiInfo info{.version = api.version(), .models = {}, .vocab = 0, .needs_key = api.needs_key()};
  for (const ServedModel& model : api.models()) {
    info.vocab = std::max(info.vocab, model.engine->vocab());
    info.models.push_back(model.name);
    info.models.insert(info.models.end(), model.aliases.begin(), model.aliases.end());
  }
  reply.body = openapi_json(info);
  return nullptr;
}

std::unique_ptr<Task> docs(const Api& api, const Request&, Reply& reply, const Wake&) {
  reply.content_type = "text/html; charset=utf-8";
  reply.headers.push_back({"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"});
  reply.body = openapi_page(api.version());
  return nullptr;
}

}  // namespace baize::serve::routes_impl
