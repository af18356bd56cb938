// ApiError: a request that cannot be answered, as an HTTP status and OpenAI's error object {error: {message, type,
// param, code}}. Thrown by whatever reads requests, written by the service. Any thread.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

#include "base/error.h"
#include "serve/http.h"

namespace baize::serve {

struct ApiError : std::runtime_error {
  ApiError(int http_status, const char* error_code, std::string parameter, const std::string& message)
      : std::runtime_error(message), status(http_status), code(error_code), param(std::move(parameter)) {}

  int status;
  const char* code;   // "context_length_exceeded", ... for programs; may be empty
  std::string param;  // the parameter at fault; may be empty
};

/// A 400 that names the parameter at fault.
template <typename... Args>
[[noreturn]] void bad_request(const std::string& param, fmt::format_string<Args...> format, Args&&... args) {
  throw ApiError(400, "invalid_value", param, fmt::format(format, std::forward<Args>(args)...));
}

/// What an error of the engine or the text layer means to a client.
ApiError to_api_error(const Error& error);

/// The same of the exception that is being handled: for use in a catch block.
ApiError current_api_error();

/// {"error": {...}}
std::string error_json(const ApiError& error);

/// Makes `reply` whole: status, headers and body.
void write_error(const ApiError& error, Reply& reply);

}  // namespace baize::serve
