#include "serve/api.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <new>

#include "base/log.h"
#include "serve/routes.h"

namespace baize::serve {

namespace {

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest digest(std::string_view text) {
  Digest out{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

// Takes as long for any two texts of given lengths, so that no timing tells how much of a key is right.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  const Digest x = digest(a), y = digest(b);
  return CRYPTO_memcmp(x.data(), y.data(), x.size()) == 0;
}

bool matches(const Route& route, std::string_view path) {
  const std::string_view pattern = route.path;
  if (!pattern.ends_with("/*")) return path == pattern;
  const std::string_view stem = pattern.substr(0, pattern.size() - 1);
  return path.starts_with(stem) && path.size() > stem.size();
}

std::string paths_like(const std::string& path) {
  std::string known;
  for (const Route& route : routes()) {
    if (!known.empty()) known += ", ";
    known += route.path;
  }
  return fmt::format("there is no {}; known are {}", path.substr(0, 100), known);
}

}  // namespace

Api::Api(ServeConfig config, std::vector<ServedModel> models, std::string version)
    : config_(std::move(config)), models_(std::move(models)), version_(std::move(version)) {}

std::unique_ptr<Task> Api::handle(const Request& request, Reply& reply, const Wake& wake) {
  ++metrics_.requests;
  try {
    if (add_cors(request, reply)) return nullptr;
    return dispatch(request, reply, wake);
  } catch (const ApiError& error) {
    report(error, reply);
  } catch (const Error& error) {
    report(to_api_error(error), reply);
  } catch (const std::bad_alloc&) {
    report({503, "out_of_resources", "", "out of memory"}, reply);
  } catch (const std::exception& error) {
    report({500, "internal_error", "", error.what()}, reply);
  }
  return nullptr;
}

void Api::refuse(int status, const std::string& why, Reply& reply) {
  const char* code = status == 408   ? "timeout"
                     : status == 413 ? "request_too_large"
                     : status == 431 ? "headers_too_large"
                     : status == 503 ? "unavailable"
                                     : "invalid_http";
  report({status, code, "", why}, reply);
}

void Api::report(const ApiError& error, Reply& reply) {
  metrics_.errors.add(*error.code == '\0' ? "other" : error.code);
  if (error.status >= 500 && error.status != 503) log::error("a request failed: {}", error.what());
  write_error(error, reply);
}

std::unique_ptr<Task> Api::dispatch(const Request& request, Reply& reply, const Wake& wake) {
  std::string allowed;
  for (const Route& route : routes()) {
    if (!matches(route, request.path)) continue;
    if (request.method == route.method) {
      if (!route.open) check_key(request);
      std::unique_ptr<Task> task = route.handler(*this, request, reply, wake);
      if (task == nullptr) reply.done = true;
      return task;
    }
    allowed += allowed.empty() ? route.method : std::string(", ") + route.method;
  }
  if (allowed.empty()) throw ApiError(404, "not_found", "", paths_like(request.path));
  reply.headers.push_back({"Allow", allowed});
  throw ApiError(405, "method_not_allowed", "",
                 fmt::format("{} takes {}, not {}", request.path, allowed, request.method.substr(0, 20)));
}

void Api::check_key(const Request& request) const {
  if (config_.api_keys.empty()) return;
  constexpr std::string_view kScheme = "bearer ";
  std::string_view given = request.header("Authorization");
  if (given.empty()) {
    throw ApiError(401, "missing_api_key", "",
                   "this server needs a key: send the header \"Authorization: Bearer KEY\"");
  }
  if (given.size() >= kScheme.size() && same_name(given.substr(0, kScheme.size()), kScheme)) {
    given.remove_prefix(kScheme.size());
  }
  bool known = false;
  for (const std::string& key : config_.api_keys) known = equal_in_constant_time(given, key) || known;
  if (!known) throw ApiError(401, "invalid_api_key", "", "the key is not one of this server's");
}

// Lets the pages of the configured origins in. True when that was all that was asked (a preflight request).
bool Api::add_cors(const Request& request, Reply& reply) const {
  const std::string origin(request.header("Origin"));
  if (origin.empty() || config_.cors.empty()) return false;
  const bool all = std::find(config_.cors.begin(), config_.cors.end(), "*") != config_.cors.end();
  if (!all && std::find(config_.cors.begin(), config_.cors.end(), origin) == config_.cors.end()) return false;
  reply.headers.push_back({"Access-Control-Allow-Origin", all ? "*" : origin});
  reply.headers.push_back({"Access-Control-Expose-Headers", "Retry-After"});
  reply.headers.push_back({"Vary", "Origin"});
  if (request.method != "OPTIONS" || request.header("Access-Control-Request-Method").empty()) return false;
  reply.headers.push_back({"Access-Control-Allow-Methods", "GET, POST"});
  // OpenAI's client in a page sends a dozen headers of its own (X-Stainless-...); no header is worth refusing.
  const std::string_view headers = request.header("Access-Control-Request-Headers");
  if (!headers.empty()) reply.headers.push_back({"Access-Control-Allow-Headers", std::string(headers)});
  reply.headers.push_back({"Access-Control-Max-Age", "3600"});
  reply.status = 204;
  reply.done = true;
  return true;
}

}  // namespace baize::serve
