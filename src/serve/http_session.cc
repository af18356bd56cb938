#include "serve/http_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <limits>

#include "base/clock.h"
#include "base/log.h"

namespace baize::serve {

namespace http = boost::beast::http;

namespace {

constexpr uint32_t kMaxHeaderBytes = 32 << 10;
constexpr std::ptrdiff_t kMaxHeaders = 100;
constexpr size_t kMaxTarget = 8 << 10;
constexpr size_t kMaxPipelined = 64 << 10;  // bytes of later requests that are read while one is answered
constexpr size_t kLargeRequest = 16 << 10;  // bodies above it are handled on another thread
constexpr double kLingerSeconds = 5;        // without a byte

std::string_view view(boost::beast::string_view text) { return {text.data(), text.size()}; }

int status_of(const error_code& error) {
  if (error == http::error::header_limit) return 431;
  if (error == http::error::body_limit || error == http::error::buffer_overflow) return 413;
  if (error == http::error::bad_version) return 505;
  return 400;
}

// "/v1/models" of "/v1/models?x=1" and of "http://host/v1/models".
std::string path_of(std::string_view target) {
  if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != std::string_view::npos) {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return std::string(target.substr(0, target.find_first_of("?#")));
}

Request to_request(http::request<http::string_body>&& message) {
  Request request;
  request.method = std::string(view(message.method_string()));
  request.path = path_of(view(message.target()));
  for (const auto& field : message) {
    request.headers.push_back({std::string(view(field.name_string())), std::string(view(field.value()))});
  }
  request.body = std::move(message.body());
  request.received = now_seconds();
  return request;
}

}  // namespace

struct HttpSession::Exchange {
  Request request;
  Reply reply;
  std::unique_ptr<Task> task;
  bool keep_alive = false;
  bool chunks = false;   // the client knows chunked bodies
  bool no_body = false;  // HEAD
  bool handled = false;
};

void WakeHub::wake(std::shared_ptr<Signal> signal) {
  if (signal->set.exchange(true)) return;  // already on its way
  const std::lock_guard lock(mutex_);
  if (io_ == nullptr) return;
  ready_.push_back(std::move(signal));
  if (posted_) return;
  posted_ = true;
  net::post(*io_, [self = shared_from_this()] { self->drain(); });
}

void WakeHub::close() {
  const std::lock_guard lock(mutex_);
  io_ = nullptr;
  ready_.clear();
}

void WakeHub::drain() {
  {
    const std::lock_guard lock(mutex_);
    std::swap(ready_, taken_);
    posted_ = false;
  }
  for (const std::shared_ptr<Signal>& signal : taken_) {
    signal->set = false;
    if (signal->session != nullptr) signal->session->signal();
  }
  taken_.clear();
}

HttpSession::HttpSession(HttpShared& shared, std::unique_ptr<Transport> transport)
    : shared_(shared), transport_(std::move(transport)), event_(shared.io, net::steady_timer::time_point::max()) {
  signal_->session = this;
  shared_.sessions.insert(this);
}

HttpSession::~HttpSession() {
  signal_->session = nullptr;
  shared_.sessions.erase(this);
}

Wake HttpSession::make_wake() const {
  return [hub = shared_.hub, signal = signal_] { hub->wake(signal); };
}

void HttpSession::enter(Phase phase, double seconds) {
  phase_ = phase;
  deadline_ = now_seconds() + seconds;
}

void HttpSession::check_deadline(double now) {
  if (now < deadline_) return;
  if (phase_ == Phase::kReading && !timed_out_) {
    timed_out_ = true;  // the client is told so, if it listens
    deadline_ = now + kLingerSeconds;
    signal();
  } else {
    close();
  }
}

void HttpSession::close() {
  if (closed_) return;
  closed_ = true;
  error_code ignored;
  transport_->socket().close(ignored);
  signal();
}

void HttpSession::signal() {
  signalled_ = true;
  event_.cancel();
}

net::awaitable<void> HttpSession::wait() {
  if (!signalled_) {
    error_code ignored;
    co_await event_.async_wait(net::redirect_error(net::use_awaitable, ignored));
  }
  signalled_ = false;
}

void HttpSession::start_read() {
  if (reading_ || gone()) return;
  reading_ = true;
  transport_->read_some(net::buffer(in_), [self = shared_from_this()](error_code error, size_t size) {
    self->reading_ = false;
    if (size > 0) {
      const auto room = self->buffer_.prepare(size);
      net::buffer_copy(room, net::buffer(self->in_.data(), size));
      self->buffer_.commit(size);
    }
    if (error) self->ended_ = true;
    self->signal();
  });
}

net::awaitable<void> HttpSession::run(bool too_many) {
  const auto self = shared_from_this();
  try {
    enter(Phase::kReading, shared_.options.read_seconds);
    bool open = co_await transport_->open();
    if (open && too_many) {
      co_await refuse(503, "the server has too many connections: try again later");
      open = false;
    }
    while (open) open = co_await serve_one();
    co_await linger();
  } catch (const std::exception& error) {
    log::error("a connection ended: {}", error.what());
  }
  close();
}

// What is still on its way is read, for a connection that is closed before would be reset, and with it the reply.
net::awaitable<void> HttpSession::linger() {
  if (gone()) co_return;
  error_code ignored;
  transport_->socket().shutdown(tcp::socket::shutdown_send, ignored);
  const double last = now_seconds() + std::max(kLingerSeconds, shared_.options.read_seconds);
  while (!gone()) {
    enter(Phase::kClosing, std::min(kLingerSeconds, last - now_seconds()));
    buffer_.clear();
    start_read();
    co_await wait();
  }
}

int HttpSession::check_header(const Parser& parser, std::string& why) const {
  const auto& message = parser.get();
  const auto count = std::distance(message.begin(), message.end());
  if (count > kMaxHeaders) {
    why = fmt::format("the request has {} headers, but at most {} are allowed", count, kMaxHeaders);
    return 431;
  }
  if (message.target().size() > kMaxTarget) {
    why = fmt::format("the path is longer than {} bytes", kMaxTarget);
    return 431;
  }
  if (message.version() >= 11 && message.count(http::field::host) != 1) {
    why = "the request must have exactly one Host header";
    return 400;
  }
  const auto expect = message[http::field::expect];
  if (!expect.empty() && !same_name(view(expect), "100-continue")) {
    why = fmt::format("the expectation \"{}\" is unknown", view(expect));
    return 417;
  }
  return 0;
}

// Some clients send one behind a body.
void HttpSession::skip_empty_lines() {
  const auto* data = static_cast<const char*>(buffer_.data().data());
  size_t empty = 0;
  while (empty < buffer_.size() && (data[empty] == '\r' || data[empty] == '\n')) ++empty;
  buffer_.consume(empty);
}

bool HttpSession::begins_like_http() const {
  const char first = *static_cast<const char*>(buffer_.data().data());
  return (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z');
}

// Returns 0 for a whole request, -1 when the connection ended, else the status of a refusal.
net::awaitable<int> HttpSession::read_request(Parser& parser, std::string& why) {
  const auto& options = shared_.options;
  bool begun = false;   // the parser has taken something: an empty line now ends the header
  bool header = false;  // it is whole
  if (buffer_.size() == 0) {
    enter(Phase::kIdle, options.idle_seconds);
  } else {
    enter(Phase::kReading, options.read_seconds);
  }
  while (true) {
    if (!begun) skip_empty_lines();
    if (buffer_.size() > 0) {
      if (phase_ == Phase::kIdle) enter(Phase::kReading, options.read_seconds);
      if (!begun && !begins_like_http()) {  // the parser would wait for the end of a header that never comes
        why = "the request is not HTTP (is it TLS, to a port without?)";
        co_return 400;
      }
      error_code error;
      const size_t used = parser.put(buffer_.data(), error);
      buffer_.consume(used);
      begun = begun || used > 0;
      if (error && error != http::error::need_more) {
        const int status = status_of(error);
        why = status == 413   ? fmt::format("the body is larger than {} bytes", options.max_body)
              : status == 431 ? fmt::format("the headers are larger than {} bytes", kMaxHeaderBytes)
                              : fmt::format("the request is not valid HTTP: {}", error.message());
        co_return status;
      }
      if (!header && parser.is_header_done()) {
        header = true;
        if (const int status = check_header(parser, why); status != 0) co_return status;
        parser.eager(true);
        if (!parser.is_done() && !parser.get()[http::field::expect].empty()) {
          const bool written = co_await write("HTTP/1.1 100 Continue\r\n\r\n");
          if (!written) co_return -1;
          enter(Phase::kReading, options.read_seconds);
        }
      }
      if (parser.is_done()) co_return 0;
      if (used > 0 && buffer_.size() > 0) continue;
    }
    if (gone()) co_return -1;
    start_read();
    co_await wait();
    if (timed_out_) {
      why = fmt::format("the request did not arrive within {:g} seconds", options.read_seconds);
      co_return 408;
    }
  }
}

net::awaitable<void> HttpSession::refuse(int status, const std::string& why) {
  Exchange exchange;
  shared_.service.refuse(status, why, exchange.reply);
  co_await write_reply(exchange, exchange.reply);
}

net::awaitable<bool> HttpSession::serve_one() {
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(static_cast<uint64_t>(shared_.options.max_body));
  std::string why;
  int status = co_await read_request(parser, why);
  if (status < 0) co_return false;
  Exchange exchange;
  if (status == 0 && shared_.stopping) {
    status = 503;
    why = "the server is shutting down: ask another one";
  }
  if (status != 0) {
    co_await refuse(status, why);
    co_return false;
  }
  exchange.keep_alive = parser.get().keep_alive();
  exchange.chunks = parser.get().version() >= 11;
  exchange.no_body = parser.get().method() == http::verb::head;
  exchange.request = to_request(parser.release());
  if (exchange.no_body) exchange.request.method = "GET";
  struct Working {
    explicit Working(HttpShared& s) : shared(s) { ++shared.working; }
    ~Working() {
      if (--shared.working == 0 && shared.stopping && shared.on_idle) shared.on_idle();
    }
    Working(const Working&) = delete;
    Working& operator=(const Working&) = delete;
    HttpShared& shared;
  };
  const Working working(shared_);
  const bool written = co_await answer(exchange);
  co_return written&& exchange.keep_alive;
}

// Hands the request to the service. False when the client left meanwhile.
net::awaitable<bool> HttpSession::begin(Exchange& exchange) {
  if (exchange.request.body.size() <= kLargeRequest) {
    exchange.task = shared_.service.handle(exchange.request, exchange.reply, make_wake());
    co_return true;
  }
  const auto job = std::make_shared<Exchange>();
  job->request = std::move(exchange.request);
  net::post(shared_.pool, [job, self = shared_from_this()] {
    job->task = self->shared_.service.handle(job->request, job->reply, self->make_wake());
    net::post(self->shared_.io, [job, self] {
      job->handled = true;
      self->signal();
    });
  });
  while (!job->handled) {
    start_read();
    co_await wait();
    if (gone()) co_return false;
  }
  exchange.task = std::move(job->task);
  exchange.reply = std::move(job->reply);
  co_return true;
}

// A task that throws is dropped: its client is told so if the reply has not begun, else cut off (false). Nobody else
// notices.
bool HttpSession::advance(Exchange& exchange, bool headed) {
  std::string why = "for an unknown reason";
  try {
    exchange.task->advance(exchange.reply);
    return true;
  } catch (const std::exception& error) {
    why = error.what();
  } catch (...) {
  }
  exchange.task.reset();
  exchange.reply = Reply();
  shared_.service.refuse(500, "the server failed to answer: " + why, exchange.reply);
  return !headed;
}

net::awaitable<bool> HttpSession::answer(Exchange& exchange) {
  enter(Phase::kWorking, std::numeric_limits<double>::infinity());
  const bool begun = co_await begin(exchange);
  if (!begun) co_return false;
  Reply& reply = exchange.reply;
  bool headed = false;
  if (exchange.task != nullptr) advance(exchange, headed);
  while (!reply.done || reply.streamed) {
    if (reply.streamed && (!reply.body.empty() || reply.done)) {
      exchange.keep_alive = exchange.keep_alive && exchange.chunks && !shared_.stopping;
      std::string out = headed ? std::string() : format_head(reply, exchange.chunks ? -1 : 0, exchange.keep_alive);
      if (!exchange.no_body && exchange.chunks) {
        if (!reply.body.empty()) append_chunk(out, reply.body);
        if (reply.done) out += "0\r\n\r\n";
      } else if (!exchange.no_body) {
        out += reply.body;
      }
      headed = true;
      reply.body.clear();
      const bool written = co_await write(out);
      if (!written || reply.done || exchange.no_body) co_return written;
      enter(Phase::kWorking, std::numeric_limits<double>::infinity());
    }
    if (buffer_.size() < kMaxPipelined) start_read();
    co_await wait();
    if (gone() || !advance(exchange, headed)) co_return false;
  }
  exchange.keep_alive = exchange.keep_alive && !shared_.stopping;
  const bool written = co_await write_reply(exchange, reply);
  co_return written;
}

net::awaitable<bool> HttpSession::write_reply(const Exchange& exchange, Reply& reply) {
  std::string out = format_head(reply, static_cast<int64_t>(reply.body.size()), exchange.keep_alive);
  if (!exchange.no_body) out += reply.body;
  const bool written = co_await write(out);
  co_return written;
}

net::awaitable<bool> HttpSession::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (closed_) co_return false;
    enter(Phase::kWriting, shared_.options.write_seconds);
    error_code error;
    const size_t size = co_await transport_->write_some(net::buffer(bytes.data(), bytes.size()), error);
    if (error) co_return false;
    bytes.remove_prefix(size);
  }
  co_return true;
}

}  // namespace baize::serve
