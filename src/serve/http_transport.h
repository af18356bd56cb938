// Transport: one connection's bytes, over plain TCP or TLS. Included by the two source files of the HTTP server only,
// for it brings Boost.Asio along. The server's thread.
#pragma once

#include <utility>  // which Boost 1.74 forgets

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>

namespace baize::serve {

namespace net = boost::asio;
using tcp = net::ip::tcp;
using boost::system::error_code;

class Transport {
 public:
  using OnRead = std::function<void(error_code, size_t)>;

  virtual ~Transport() = default;
  /// Whatever comes before the first byte of HTTP; false if that failed.
  virtual net::awaitable<bool> open() = 0;
  /// At most one read and one write at a time.
  virtual void read_some(net::mutable_buffer to, OnRead done) = 0;
  virtual net::awaitable<size_t> write_some(net::const_buffer from, error_code& error) = 0;
  virtual tcp::socket& socket() = 0;
};

/// Makes the transports of accepted connections.
class TransportFactory {
 public:
  virtual ~TransportFactory() = default;
  virtual std::unique_ptr<Transport> make(tcp::socket socket) = 0;
};

std::unique_ptr<TransportFactory> plain_transport();

/// Certificate chain and private key are PEM files. Throws Error(kNotFound or kCorrupt) naming the file.
std::unique_ptr<TransportFactory> tls_transport(const std::string& cert, const std::string& key);

}  // namespace baize::serve
