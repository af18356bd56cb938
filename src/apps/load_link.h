// LoadLink: one connection to the server under test, plain or TLS. Included by the load client's source file only, for
// it brings Boost.Asio along. The load client's thread.
#pragma once

#include <utility>  // which Boost 1.74 forgets

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <optional>
#include <string>

namespace baize::apps {

namespace net = boost::asio;
using tcp = net::ip::tcp;
using boost::system::error_code;

/// Where a server was found.
struct LoadEndpoint {
  std::string host;  // for the certificate
  tcp::resolver::results_type addresses;
  net::ssl::context* tls = nullptr;  // none: plain HTTP
};

class LoadLink {
 public:
  LoadLink(net::io_context& io, const LoadEndpoint& endpoint);

  /// Connects; at an error `why` says what failed.
  net::awaitable<bool> open(std::string& why);
  net::awaitable<bool> write(std::string_view bytes);
  /// At least one byte, unless there is an error (the other side closed, or close()).
  net::awaitable<size_t> read(net::mutable_buffer to, error_code& error);
  /// What waits here ends with an error.
  void close();

  boost::beast::flat_buffer in;  // read and not yet understood
  bool used = false;             // it has carried a whole answer already

 private:
  net::awaitable<bool> connect(std::string& why);

  const LoadEndpoint& endpoint_;
  tcp::socket socket_;
  std::optional<net::ssl::stream<tcp::socket&>> tls_;
  bool closed_ = false;
};

}  // namespace baize::apps
