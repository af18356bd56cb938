#include "serve/api_error.h"

#include <new>

#include "serve/json_text.h"

namespace baize::serve {

namespace {

const char* type_of(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

}  // namespace

ApiError to_api_error(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kInvalidArgument:
      return {400, "invalid_value", "", error.what()};
    case ErrorKind::kNotFound:
      return {404, "not_found", "", error.what()};
    case ErrorKind::kUnsupported:
      return {400, "unsupported_value", "", error.what()};
    case ErrorKind::kBusy:
      return {429, "rate_limit_exceeded", "", error.what()};
    case ErrorKind::kCancelled:
      return {503, "cancelled", "", error.what()};
    case ErrorKind::kResource:
      return {503, "out_of_resources", "", error.what()};
    default:
      return {500, "internal_error", "", error.what()};
  }
}

ApiError current_api_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const Error& error) {
    return to_api_error(error);
  } catch (const std::bad_alloc&) {
    return {503, "out_of_resources", "", "the server has no memory left for this request: try again later"};
  } catch (const std::exception& error) {
    return {500, "internal_error", "", error.what()};
  } catch (...) {
    return {500, "internal_error", "", "the server failed for an unknown reason"};
  }
}

std::string error_json(const ApiError& error) {
  std::string out = "{\"error\":{\"message\":";
  append_json(out, error.what());
  fmt::format_to(std::back_inserter(out), ",\"type\":\"{}\",\"param\":", type_of(error.status));
  error.param.empty() ? static_cast<void>(out += "null") : append_json(out, error.param);
  out += ",\"code\":";
  *error.code == '\0' ? static_cast<void>(out += "null") : append_json(out, error.code);
  out += "}}";
  return out;
}

void write_error(const ApiError& error, Reply& reply) {
  reply.status = error.status;
  reply.content_type = "application/json";
  if (error.status == 429 || error.status == 503) reply.headers.push_back({"Retry-After", "1"});
  if (error.status == 401) reply.headers.push_back({"WWW-Authenticate", "Bearer"});
  reply.streamed = false;
  reply.body = error_json(error);
  reply.done = true;
}

}  // namespace baize::serve
