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

inline error_code no_memory() { return make_error_code(boost::system::errc::not_enough_memory); }

// As string_body, where a lack of memory is an error of the request: an exception would leave the server's loop, and
// nobody would answer.
struct UploadBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool isRequest, typename Fields>
    reader(beast::http::header<isRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>& length, error_code& error) {
      grow(error, [&] { body_.reserve(static_cast<size_t>(length.value_or(0))); });
    }
    template <typename Buffers>
    size_t put(const Buffers& buffers, error_code& error) {
      const size_t before = body_.size();
      grow(error, [&] {
        for (const net::const_buffer piece : beast::buffers_range_ref(buffers))
          body_.append(static_cast<const char*>(piece.data()), piece.size());
      });
      return body_.size() - before;
    }
    void finish(error_code& error) { error = {}; }

   private:
    template <typename Change>
    static void grow(error_code& error, const Change& change) {
      try {
        change();
        error = {};
      } catch (const std::exception&) {
        error = no_memory();
      }
    }
    value_type& body_;
  };
};
using BeastRequest = beast::http::request<UploadBody>;

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
