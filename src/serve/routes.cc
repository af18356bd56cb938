#include "serve/routes.h"

namespace baize::serve {

namespace {

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", routes_impl::chat, "Answer a conversation", "ChatCompletion", kChat},
    {"POST", "/v1/completions", routes_impl::completion, "Continue a text", "Completion", kCompletion},
    {"GET", "/v1/models", routes_impl::models, "The models", "Models"},
    {"GET", "/v1/models/*", routes_impl::model, "One model", "Model"},
    {"POST", "/tokenize", routes_impl::tokenize, "Token ids of a text or a conversation", "Tokens", kTokenize},
    {"POST", "/detokenize", routes_impl::detokenize, "The text of token ids", "Text", kDetokenize},
    {"GET", "/health", routes_impl::health, "200 while requests are answered", "Health", 0, true},
    {"GET", "/version", routes_impl::version, "The program's version", "Version", 0, true},
    {"GET", "/metrics", routes_impl::metrics, "What happened so far, for Prometheus", "text/plain"},
    {"GET", "/openapi.json", routes_impl::openapi, "This interface as an OpenAPI document", "Document", 0, true},
    {"GET", "/docs", routes_impl::docs, "This interface as a page", "text/html", 0, true},
    {"GET", "/", routes_impl::page, "The chat page", "text/html", 0, true},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

}  // namespace baize::serve
