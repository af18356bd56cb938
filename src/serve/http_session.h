// HttpSession: one connection: reads requests, has them answered, writes replies, as a coroutine. While an answer is in
// the making the connection is read, too: so its end is noticed at once, and the next requests of a client that does
// not wait are kept. Included by the HTTP server's source files only. The server's thread.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <limits>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "serve/http_server.h"
#include "serve/http_transport.h"

namespace baize::serve {

class HttpSession;

/// What a Wake sets; outlives its session.
struct Signal {
  std::atomic<bool> set{false};
  HttpSession* session = nullptr;  // the server's thread only; null once it has ended
};

/// Carries wakes from any thread to the server's: those that come before it has looked cost one hand-over together.
class WakeHub : public std::enable_shared_from_this<WakeHub> {
 public:
  explicit WakeHub(net::io_context& io) : io_(&io) {}
  void wake(std::shared_ptr<Signal> signal);
  /// Nothing is handed over any more.
  void close();

 private:
  void drain();

  std::mutex mutex_;
  net::io_context* io_;
  std::vector<std::shared_ptr<Signal>> ready_, taken_;
  bool posted_ = false;
};

/// What sessions share.
struct HttpShared {
  HttpShared(HttpOptions o, Service& s) : options(std::move(o)), service(s) {}

  HttpOptions options;
  Service& service;
  std::unordered_set<HttpSession*> sessions;  // before io, which may hold the last sessions
  net::io_context io{1};
  net::thread_pool pool{1};  // large requests
  std::shared_ptr<WakeHub> hub = std::make_shared<WakeHub>(io);
  int64_t working = 0;  // requests being answered
  bool stopping = false;
  std::function<void()> on_idle;  // after the last request, when stopping
};

class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(HttpShared& shared, std::unique_ptr<Transport> transport);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  /// The whole life of the connection. One that is too many is only told so.
  net::awaitable<void> run(bool too_many);
  /// Called now and then: ends what takes too long.
  void check_deadline(double now);
  /// Whether nothing would be lost by closing it.
  bool idle() const { return phase_ == Phase::kIdle || phase_ == Phase::kReading; }
  void close();
  void signal();

 private:
  enum class Phase { kIdle, kReading, kWorking, kWriting, kClosing };
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  struct Exchange;

  void enter(Phase phase, double seconds);
  net::awaitable<void> wait();
  void start_read();
  bool gone() const { return ended_ || closed_; }
  net::awaitable<bool> serve_one();
  net::awaitable<void> refuse(int status, const std::string& why);
  net::awaitable<int> read_request(Parser& parser, std::string& why);
  void skip_empty_lines();
  bool begins_like_http() const;
  int check_header(const Parser& parser, std::string& why) const;
  net::awaitable<bool> answer(Exchange& exchange);
  net::awaitable<bool> begin(Exchange& exchange);
  bool advance(Exchange& exchange, bool headed);
  net::awaitable<bool> write(std::string_view bytes);
  net::awaitable<bool> write_reply(const Exchange& exchange, Reply& reply);
  net::awaitable<void> linger();
  Wake make_wake() const;

  HttpShared& shared_;
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  net::steady_timer event_;  // never expires; cancelled to wake the coroutine
  bool signalled_ = false;
  Phase phase_ = Phase::kReading;
  double deadline_ = std::numeric_limits<double>::infinity();
  bool timed_out_ = false;
  bool reading_ = false;  // a read is under way
  bool ended_ = false;    // the client sends no more
  bool closed_ = false;
  std::array<char, 8192> in_{};
  boost::beast::flat_buffer buffer_;  // read, but not used yet
};

}  // namespace baize::serve
