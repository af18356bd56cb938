// HTTP GET through libcurl, with our own rules for redirects, secrets and failures. A client keeps its connections
// between requests and belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace baize::store {

/// What a server answered to a request that failed.
struct HttpAnswer {
  int status = 0;          // 0 when it broke off before one
  double retry_after = 0;  // seconds the server asked to wait
  bool connected = true;   // false: no server was ever reached
};

/// A failed request. `retryable`: the same request may succeed later (broken connection, timeout, 429, 5xx).
class HttpError : public Error {
 public:
  HttpError(const std::string& message, bool retryable, HttpAnswer answer = {})
      : Error(ErrorKind::kNetwork, message), retryable_(retryable), answer_(answer) {}
  bool retryable() const { return retryable_; }
  const HttpAnswer& answer() const { return answer_; }

 private:
  bool retryable_;
  HttpAnswer answer_;
};

struct HttpRequest {
  std::string url;
  std::vector<std::string> headers = {};  // sent on every hop, "Name: value"
  std::vector<std::string> secret_headers =
      {};                           // sent only to the scheme, host and port of `url`, whatever redirects follow
  bool plain_http_allowed = false;  // else each hop is https, or on this machine as `url` is
  std::string token_hint = {};      // what to do about 401 and 403, as a sentence part
};

struct HttpHead {
  int status = 0;                              // 200, 206 or 304
  std::string url;                             // after redirects
  std::map<std::string, std::string> headers;  // names in lower case
  /// A header's value, or empty.
  std::string header(const std::string& name) const;
  /// Content-Length, or -1.
  int64_t content_length() const;
};

/// What to do with an answer. Any of these may throw; the transfer ends and the exception passes on.
struct HttpSink {
  std::function<void(const HttpHead&)> head;        // once, before the body
  std::function<void(std::span<const char>)> body;  // pieces, in order
  std::function<void()> tick;                       // at least once a second
};

struct HttpLimits {
  int connect_seconds = 30;
  int silent_seconds = 60;  // a server that sends nothing for so long has broken off
};

class HttpClient {
 public:
  explicit HttpClient(HttpLimits limits = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// One GET with redirects followed (at most ten; the rules are HttpRequest's). Statuses other than 200, 206 and 304
  /// and every network fault throw HttpError. A body shorter than its Content-Length is a fault.
  void get(const HttpRequest& request, const HttpSink& sink);

  /// A whole small text (at most `limit` bytes).
  std::string get_text(const HttpRequest& request, const std::function<void()>& tick, size_t limit = size_t{64} << 20);

 private:
  struct Hop;
  void perform(Hop& hop, const HttpRequest& request, bool with_secrets);

  HttpLimits limits_;
  struct Free {
    void operator()(void* curl) const;
  };
  std::unique_ptr<void, Free> curl_;
};

/// "scheme://host:port" with the port written out, or empty when `url` is not an http(s) address with a host.
std::string origin_of(const std::string& url);

/// True when the host of `url` is this machine (localhost, 127.x.x.x, ::1).
bool is_loopback(const std::string& url);

/// `text` with everything but unreserved characters as %XX; '/' stays when `keep_slashes`.
std::string percent_encode(std::string_view text, bool keep_slashes);

/// `reference` (relative or absolute) resolved against `base`; empty when it is not an address.
std::string resolve_url(const std::string& base, const std::string& reference);

}  // namespace baize::store
