// A client's connection, TCP or TLS over it, as the stream that Beast reads and writes.
#pragma once

#include <boost/asio/ssl.hpp>
#include <memory>
#include <string>
#include <utility>

#include "serve/http/beast_types.h"

namespace liveavatar::http {

using TlsContext = net::ssl::context;

// Of ServerOptions. kNotFound, kCorrupt: which file, and what is wrong with it.
Expected<std::shared_ptr<TlsContext>> load_tls(const std::string& certificate_file, const std::string& key_file);

class ClientStream {
 public:
  using next_layer_type = beast::tcp_stream;
  using executor_type = beast::tcp_stream::executor_type;
  template <typename Token>
  using Result = typename net::async_result<std::decay_t<Token>, void(error_code, size_t)>::return_type;

  // tls: null: plain TCP; it outlives the stream.
  ClientStream(tcp::socket socket, TlsContext* tls) : tcp_(std::make_unique<beast::tcp_stream>(std::move(socket))) {
    if (tls != nullptr) tls_ = std::make_unique<net::ssl::stream<beast::tcp_stream&>>(*tcp_, *tls);
  }

  next_layer_type& next_layer() { return *tcp_; }
  executor_type get_executor() { return tcp_->get_executor(); }
  tcp::socket& socket() { return tcp_->socket(); }
  const tcp::socket& socket() const { return tcp_->socket(); }
  template <typename Duration>
  void expires_after(Duration time) {
    tcp_->expires_after(time);
  }
  void expires_at(net::steady_timer::time_point time) { tcp_->expires_at(time); }
  void expires_never() { tcp_->expires_never(); }

  // Of TLS; the caller sets the time that it may take.
  net::awaitable<void> handshake(error_code& error) {
    if (tls_) co_await tls_->async_handshake(net::ssl::stream_base::server, into(error));
  }
  // After a move there is nothing to close.
  void close() {
    error_code ignored;
    if (tcp_) tcp_->socket().close(ignored);
  }
  // Ends what is being read or written, with an error.
  void cancel() {
    if (tcp_) tcp_->cancel();
  }
  // Tells the client that nothing more follows.
  net::awaitable<void> shutdown_send() {
    error_code ignored;
    if (!tcp_) co_return;
    tcp_->expires_after(std::chrono::seconds(1));
    if (tls_ && socket().is_open()) co_await tls_->async_shutdown(into(ignored));
    if (socket().is_open()) socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  // handler(error_code), at once where there is no TLS.
  template <typename Handler>
  void async_end_tls(Handler handler) {
    if (!tls_) return handler(error_code());
    tls_->async_shutdown(std::move(handler));
  }

  template <typename Buffers, typename Token>
  Result<Token> async_read_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_read_some(buffers, std::forward<Token>(token));
    return tcp_->async_read_some(buffers, std::forward<Token>(token));
  }
  template <typename Buffers, typename Token>
  Result<Token> async_write_some(const Buffers& buffers, Token&& token) {
    if (tls_) return tls_->async_write_some(buffers, std::forward<Token>(token));
    return tcp_->async_write_some(buffers, std::forward<Token>(token));
  }

 private:
  std::unique_ptr<beast::tcp_stream> tcp_;  // first: TLS refers to it, also after a move
  std::unique_ptr<net::ssl::stream<beast::tcp_stream&>> tls_;
};

// What a WebSocket does at its end; found by its argument.
template <typename Handler>
void async_teardown(beast::role_type role, ClientStream& stream, Handler&& handler) {
  auto tear_down = [role, &stream, handler = std::forward<Handler>(handler)](const error_code&) mutable {
    websocket::async_teardown(role, stream.socket(), std::move(handler));
  };
  stream.async_end_tls(std::move(tear_down));
}

}  // namespace liveavatar::http
