// HttpServer: HTTP/1.1 over TCP or TLS: connections, limits, timeouts, back-pressure, graceful end. One thread runs all
// connections, each a coroutine; large requests are handled on another one, so that streams never wait for them. It
// knows nothing of what it serves (serve/http.h). Owned by the command that serves; run() is its thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "serve/http.h"

namespace baize::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int64_t port = 8000;            // 0: any free one
  std::string tls_cert, tls_key;  // PEM files; both or none
  int64_t max_body = 16 << 20;    // bytes of a request
  int64_t max_connections = 1024;
  double read_seconds = 30;   // a request that takes longer to arrive is refused
  double idle_seconds = 75;   // a connection without requests is closed
  double write_seconds = 30;  // a client that takes nothing for so long is dropped, and its request cancelled
  double grace_seconds = 30;  // running answers may take so long to finish once stop() is called
};

class HttpServer {
 public:
  /// Takes the port, but does not listen yet. Throws Error(kIo) if it is in use or may not be taken, Error(kNotFound or
  /// kCorrupt) for TLS files that cannot be read. `service` must outlive it.
  HttpServer(HttpOptions options, Service& service);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// From now on clients can connect.
  void listen();

  /// Serves until stop() was called and every answer is finished or the grace time is over.
  void run();

  /// From now on new requests get 503. Any thread.
  void stop();

  /// Stops at SIGTERM and SIGINT; the second one ends the process at once. Call before run().
  void stop_on_signals();

  /// "http://127.0.0.1:8000"
  std::string url() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baize::serve
