#include "apps/load_link.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

namespace baize::apps {

LoadLink::LoadLink(net::io_context& io, const LoadEndpoint& endpoint) : endpoint_(endpoint), socket_(io) {}

net::awaitable<bool> LoadLink::connect(std::string& why) {
  for (const auto& address : endpoint_.addresses) {
    error_code error, ignored;
    socket_.close(ignored);
    co_await socket_.async_connect(address.endpoint(), net::redirect_error(net::use_awaitable, error));
    if (closed_) co_return false;
    if (!error) {
      socket_.set_option(tcp::no_delay(true), ignored);
      co_return true;
    }
    why = error.message();
  }
  co_return false;
}

net::awaitable<bool> LoadLink::open(std::string& why) {
  const bool connected = co_await connect(why);
  if (!connected || endpoint_.tls == nullptr) co_return connected;
  tls_.emplace(socket_, *endpoint_.tls);
  SSL_set_tlsext_host_name(tls_->native_handle(), endpoint_.host.c_str());
  tls_->set_verify_mode(net::ssl::verify_peer);
  tls_->set_verify_callback(net::ssl::host_name_verification(endpoint_.host));
  error_code error;
  co_await tls_->async_handshake(net::ssl::stream_base::client, net::redirect_error(net::use_awaitable, error));
  if (error) why = "TLS: " + error.message() + " (SSL_CERT_FILE names certificates to trust)";
  co_return !error;
}

net::awaitable<bool> LoadLink::write(std::string_view bytes) {
  error_code error;
  const net::const_buffer buffer(bytes.data(), bytes.size());
  if (tls_) {
    co_await net::async_write(*tls_, buffer, net::redirect_error(net::use_awaitable, error));
  } else {
    co_await net::async_write(socket_, buffer, net::redirect_error(net::use_awaitable, error));
  }
  co_return !error;
}

net::awaitable<size_t> LoadLink::read(net::mutable_buffer to, error_code& error) {
  size_t size = 0;
  if (tls_) {
    size = co_await tls_->async_read_some(to, net::redirect_error(net::use_awaitable, error));
  } else {
    size = co_await socket_.async_read_some(to, net::redirect_error(net::use_awaitable, error));
  }
  co_return size;
}

void LoadLink::close() {
  closed_ = true;
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace baize::apps
