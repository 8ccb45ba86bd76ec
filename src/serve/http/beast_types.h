// What the files that know Beast share.
#pragma once

#include <boost/asio.hpp>
#include <boost/beast.hpp>

#include "serve/http/server.h"

namespace liveavatar::http {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;
using tcp = net::ip::tcp;
using BeastRequest = beast::http::request<beast::http::string_body>;

inline std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

// The completion of an operation as an error code, not as an exception.
inline auto into(error_code& error) { return net::redirect_error(net::use_awaitable, error); }

// What stop() ends. On the I/O thread.
class Connection {
 public:
  virtual ~Connection() = default;
  virtual void abort() = 0;
};

// For serve_socket().
struct SocketSetup {
  ServerOptions options;
  std::shared_ptr<SocketHandler> handler;
  std::string protocol;
  std::function<void(std::weak_ptr<Connection>)> enter;  // tells who is to be aborted
};
// Serves an upgraded connection to its end; false: it was never opened, since the handshake was wrong.
net::awaitable<bool> serve_socket(std::shared_ptr<net::io_context> io, beast::tcp_stream stream, BeastRequest request,
                                  SocketSetup setup);

}  // namespace liveavatar::http
