// /openapi.json and /docs.
#include "serve/openapi.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

std::unique_ptr<Task> openapi(const Api& api, const Request&, Reply& reply, const Wake&) {
  reply.body = openapi_json(api.version());
  return nullptr;
}

std::unique_ptr<Task> docs(const Api& api, const Request&, Reply& reply, const Wake&) {
  reply.content_type = "text/html; charset=utf-8";
  reply.headers.push_back({"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"});
  reply.body = openapi_page(api.version());
  return nullptr;
}

}  // namespace baize::serve::routes_impl
