#include "serve/http_transport.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <filesystem>

#include "base/error.h"

namespace baize::serve {

namespace {

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(tcp::socket socket) : socket_(std::move(socket)) {}

  net::awaitable<bool> open() override { co_return true; }
  void read_some(net::mutable_buffer to, OnRead done) override { socket_.async_read_some(to, std::move(done)); }
  net::awaitable<size_t> write_some(net::const_buffer from, error_code& error) override {
    return socket_.async_write_some(net::const_buffers_1(from), net::redirect_error(net::use_awaitable, error));
  }
  tcp::socket& socket() override { return socket_; }

 private:
  tcp::socket socket_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(tcp::socket socket, net::ssl::context& context) : stream_(std::move(socket), context) {}

  net::awaitable<bool> open() override {
    error_code error;
    co_await stream_.async_handshake(net::ssl::stream_base::server, net::redirect_error(net::use_awaitable, error));
    co_return !error;
  }
  void read_some(net::mutable_buffer to, OnRead done) override { stream_.async_read_some(to, std::move(done)); }
  net::awaitable<size_t> write_some(net::const_buffer from, error_code& error) override {
    return stream_.async_write_some(net::const_buffers_1(from), net::redirect_error(net::use_awaitable, error));
  }
  tcp::socket& socket() override { return stream_.next_layer(); }

 private:
  net::ssl::stream<tcp::socket> stream_;
};

class PlainFactory final : public TransportFactory {
 public:
  std::unique_ptr<Transport> make(tcp::socket socket) override {
    return std::make_unique<PlainTransport>(std::move(socket));
  }
};

class TlsFactory final : public TransportFactory {
 public:
  TlsFactory(const std::string& cert, const std::string& key) {
    using net::ssl::context;
    context_.set_options(context::default_workarounds | context::no_sslv2 | context::no_sslv3 | context::no_tlsv1 |
                         context::no_tlsv1_1);
    for (const std::string& file : {cert, key}) {
      if (!std::filesystem::exists(file)) fail(ErrorKind::kNotFound, "the TLS file {} does not exist", file);
    }
    error_code error;
    context_.use_certificate_chain_file(cert, error);
    if (error) fail(ErrorKind::kCorrupt, "{} holds no PEM certificate that can be used: {}", cert, error.message());
    context_.use_private_key_file(key, context::pem, error);
    if (error) {
      fail(ErrorKind::kCorrupt, "{} holds no PEM key that fits the certificate of {}: {}", key, cert, error.message());
    }
  }
  std::unique_ptr<Transport> make(tcp::socket socket) override {
    return std::make_unique<TlsTransport>(std::move(socket), context_);
  }

 private:
  net::ssl::context context_{net::ssl::context::tls_server};
};

}  // namespace

std::unique_ptr<TransportFactory> plain_transport() { return std::make_unique<PlainFactory>(); }

std::unique_ptr<TransportFactory> tls_transport(const std::string& cert, const std::string& key) {
  return std::make_unique<TlsFactory>(cert, key);
}

}  // namespace baize::serve
