// The table of endpoints. To add one, write a handler in routes/ and add its row to routes.cc: the OpenAPI document and
// the page of it follow. Any thread.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "serve/api.h"
#include "serve/params.h"

namespace baize::serve {

/// Answers at once, or returns a task; throws ApiError or Error for a request that cannot be answered.
using Handler = std::unique_ptr<Task> (*)(const Api& api, const Request& request, Reply& reply, const Wake& wake);

struct Route {
  const char* method;
  const char* path;  // one ending in "/*" stands for all that begin so
  Handler handler;
  const char* summary;
  const char*
      answer;  // of the OpenAPI document's schemas (serve/openapi_schemas.h); of another answer, its content type
  unsigned dialect = 0;  // of its parameters (serve/params.h), for the OpenAPI document; 0: none
  bool open = false;     // needs no key
};

std::span<const Route> routes();

namespace routes_impl {
std::unique_ptr<Task> chat(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> completion(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> models(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> model(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> tokenize(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> detokenize(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> health(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> version(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> metrics(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> openapi(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> docs(const Api&, const Request&, Reply&, const Wake&);
std::unique_ptr<Task> page(const Api&, const Request&, Reply&, const Wake&);
}  // namespace routes_impl

}  // namespace baize::serve
