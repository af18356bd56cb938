#include "serve/routes.h"

namespace baize::serve {

namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", routes_impl::chat, "Answer a conversation", kChat},
    {"POST", "/v1/completions", routes_impl::completion, "Continue a text", kCompletion},
    {"GET", "/v1/models", routes_impl::models, "The models"},
    {"GET", "/v1/models/*", routes_impl::model, "One model"},
    {"POST", "/tokenize", routes_impl::tokenize, "Token ids of a text or a conversation", kTokenize},
    {"POST", "/detokenize", routes_impl::detokenize, "The text of token ids", kDetokenize},
    {"GET", "/health", routes_impl::health, "200 while requests are answered", 0, true},
    {"GET", "/version", routes_impl::version, "The program's version", 0, true},
    {"GET", "/metrics", routes_impl::metrics, "What happened so far, for Prometheus", 0, false, "text/plain"},
    {"GET", "/openapi.json", routes_impl::openapi, "This interface as an OpenAPI document", 0, true},
    {"GET", "/docs", routes_impl::docs, "This interface as a page", 0, true, "text/html"},
    {"GET", "/", routes_impl::page, "The chat page", 0, true, "text/html"},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

}  // namespace baize::serve
