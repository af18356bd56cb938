// What the HTTP server and the routes say to each other: plain requests, replies and tasks. Routes never see a socket,
// the server never sees JSON. A task belongs to the server's thread; whatever it waits for calls its Wake.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace baize::serve {

struct Header {
  std::string name, value;
};

struct Request {
  std::string method;  // "GET"
  std::string path;    // without the query
  std::vector<Header> headers;
  std::string body;
  double received = 0;  // base/clock.h: when the last byte came

  /// Of a header, without regard to case; empty when it is missing.
  std::string_view header(std::string_view name) const;
};

struct Reply {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<Header> headers;
  bool streamed = false;  // the body goes out in pieces as it comes, else when it is done
  bool done = false;
  std::string body;  // of a streamed reply: what is to be sent next
};

/// Tells the server that a task can move on. Any thread; cheap; never throws.
using Wake = std::function<void()>;

/// A reply in the making. Dropping it, because the client went away, cancels what it waits for.
class Task {
 public:
  virtual ~Task() = default;
  /// Moves on as far as it can without waiting. Called once at first, then after each Wake, until the reply is done.
  /// A streamed reply may set status and headers before the first byte of its body only. What it throws ends this
  /// reply, with 500 if nothing of it was sent: a task that knows how to say so in its body catches for itself.
  virtual void advance(Reply& reply) = 0;
};

/// What answers requests. Any thread, many at once.
class Service {
 public:
  virtual ~Service() = default;
  /// Answers at once, and returns nothing, or begins a task. Never throws.
  virtual std::unique_ptr<Task> handle(const Request& request, Reply& reply, const Wake& wake) = 0;
  /// The reply to a request that the server itself refuses: one that breaks HTTP, is too large or too slow, or whose
  /// task failed (500).
  virtual void refuse(int status, const std::string& why, Reply& reply) = 0;
};

/// "Not Found" for 404.
const char* reason_phrase(int status);

/// The status line and headers. `length` < 0: a chunked body.
std::string format_head(const Reply& reply, int64_t length, bool keep_alive);

/// `body` as one chunk of a chunked body.
void append_chunk(std::string& out, std::string_view body);

/// "a/b" for "a%2Fb".
std::string decode_path(std::string_view path);

/// Whether two header names are the same.
bool same_name(std::string_view a, std::string_view b);

}  // namespace baize::serve
