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

}  // namespace liveavatar::http
