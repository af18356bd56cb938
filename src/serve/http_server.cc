#include "serve/http_server.h"

#include <netinet/tcp.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstdlib>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "serve/http_session.h"

namespace baize::serve {

namespace {

constexpr auto kTick = std::chrono::milliseconds(250);
constexpr int kBacklog = 1024;
constexpr int64_t kMaxRefused = 64;  // connections that are told at once that they are too many; others are closed

tcp::endpoint resolve(net::io_context& io, const HttpOptions& options) {
  error_code error;
  const auto found = tcp::resolver(io).resolve(options.host, std::to_string(options.port),
                                               tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty()) {
    fail(ErrorKind::kInvalidArgument, "--host {}: no address of this machine: {}", options.host, error.message());
  }
  return found.begin()->endpoint();
}

// A peer that vanished without a word is noticed within a minute.
void set_socket_options(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(net::socket_base::keep_alive(true), ignored);
  using Int = net::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPIDLE>;
  socket.set_option(Int(30), ignored);
  socket.set_option(net::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPINTVL>(10), ignored);
  socket.set_option(net::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPCNT>(3), ignored);
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpOptions options, Service& service) : shared(std::move(options), service) {}

  void bind();
  net::awaitable<void> accept();
  void tick();
  void stop();
  void finish();
  void wait_for_signal();

  HttpShared shared;
  tcp::acceptor acceptor{shared.io};
  net::steady_timer ticker{shared.io};
  net::steady_timer grace{shared.io};
  net::signal_set signals{shared.io};
  std::unique_ptr<TransportFactory> transports;
  bool ticking = false;
};

void HttpServer::Impl::bind() {
  const HttpOptions& options = shared.options;
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    fail(ErrorKind::kInvalidArgument, "--tls-cert and --tls-key belong together: give both, or none");
  }
  transports = options.tls_cert.empty() ? plain_transport() : tls_transport(options.tls_cert, options.tls_key);
  const tcp::endpoint endpoint = resolve(shared.io, options);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(net::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (error == net::error::address_in_use) {
    fail(ErrorKind::kIo, "port {} of {} is in use: stop the program that has it, or choose another with --port",
         options.port, options.host);
  }
  if (error) {
    fail(ErrorKind::kIo, "cannot take port {} of {}: {}; choose others with --host and --port", options.port,
         options.host, error.message());
  }
}

net::awaitable<void> HttpServer::Impl::accept() {
  while (acceptor.is_open()) {
    error_code error;
    tcp::socket socket(shared.io);
    co_await acceptor.async_accept(socket, net::redirect_error(net::use_awaitable, error));
    if (error == net::error::operation_aborted) co_return;
    if (error) {  // out of file descriptors, mostly: they come back
      log::warn("cannot accept a connection: {}", error.message());
      net::steady_timer pause(shared.io, std::chrono::milliseconds(100));
      co_await pause.async_wait(net::redirect_error(net::use_awaitable, error));
      continue;
    }
    set_socket_options(socket);
    const int64_t before = static_cast<int64_t>(shared.sessions.size());
    if (before >= shared.options.max_connections + kMaxRefused) continue;
    const bool too_many = before >= shared.options.max_connections;
    const auto session = std::make_shared<HttpSession>(shared, transports->make(std::move(socket)));
    const auto life = [session, too_many]() -> net::awaitable<void> { co_await session->run(too_many); };
    net::co_spawn(shared.io, life, net::detached);
    if (!ticking) tick();
  }
}

// Runs while there are connections, so that an idle server sleeps.
void HttpServer::Impl::tick() {
  ticking = !shared.sessions.empty();
  if (!ticking) return;
  ticker.expires_after(kTick);
  ticker.async_wait([this](error_code) {
    const std::vector<HttpSession*> all(shared.sessions.begin(), shared.sessions.end());
    const double now = now_seconds();
    for (HttpSession* session : all) session->check_deadline(now);
    tick();
  });
}

void HttpServer::Impl::stop() {
  if (shared.stopping) return;
  shared.stopping = true;
  log::info("stopping: {} requests are being answered", shared.working);
  shared.on_idle = [this] { net::post(shared.io, [this] { finish(); }); };
  if (shared.working == 0) return finish();
  grace.expires_after(std::chrono::milliseconds(static_cast<int64_t>(shared.options.grace_seconds * 1000)));
  grace.async_wait([this](error_code error) {
    if (error) return;
    log::warn("the grace time is over: {} requests are cut off", shared.working);
    const std::vector<HttpSession*> all(shared.sessions.begin(), shared.sessions.end());
    for (HttpSession* session : all) session->close();
    finish();
  });
}

void HttpServer::Impl::finish() {
  if (shared.working > 0) return;  // one more came before the last ended
  error_code ignored;
  acceptor.close(ignored);
  grace.cancel();
  signals.cancel(ignored);
  signals.clear(ignored);  // another one now ends the process
  const std::vector<HttpSession*> all(shared.sessions.begin(), shared.sessions.end());
  for (HttpSession* session : all) {
    if (session->idle()) session->close();
  }
}

void HttpServer::Impl::wait_for_signal() {
  signals.async_wait([this](error_code error, int) {
    if (error) return;
    if (shared.stopping) std::_Exit(exit_code(ErrorKind::kCancelled));
    stop();
    if (acceptor.is_open()) wait_for_signal();
  });
}

HttpServer::HttpServer(HttpOptions options, Service& service)
    : impl_(std::make_unique<Impl>(std::move(options), service)) {
  impl_->bind();
}

HttpServer::~HttpServer() {
  impl_->shared.pool.join();
  impl_->shared.hub->close();
}

void HttpServer::listen() {
  error_code error;
  impl_->acceptor.listen(kBacklog, error);
  if (error) fail(ErrorKind::kIo, "cannot listen at {}: {}", url(), error.message());
}

void HttpServer::run() {
  net::co_spawn(impl_->shared.io, impl_->accept(), net::detached);
  impl_->shared.io.run();
}

void HttpServer::stop() {
  net::post(impl_->shared.io, [this] { impl_->stop(); });
}

void HttpServer::stop_on_signals() {
  impl_->signals.add(SIGTERM);
  impl_->signals.add(SIGINT);
  impl_->wait_for_signal();
}

std::string HttpServer::url() const {
  const HttpOptions& options = impl_->shared.options;
  error_code ignored;
  const bool v6 = options.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", options.tls_cert.empty() ? "http" : "https", v6 ? "[" : "", options.host,
                     v6 ? "]" : "", impl_->acceptor.local_endpoint(ignored).port());
}

}  // namespace baize::serve
