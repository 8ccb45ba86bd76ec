#include "serve/http/beast_connection.h"

#include <poll.h>

#include <algorithm>
#include <cctype>

#include "core/boundary.h"
#include "serve/http/beast_limits.h"
#include "serve/http/beast_reply.h"
#include "serve/http/beast_socket.h"

namespace liveavatar::http {

namespace {

namespace fields = beast::http;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
constexpr size_t kMostHeaderBytes = 16 << 10, kMostPathBytes = 4 << 10;
constexpr auto kStreamPause = 20ms;
constexpr int kTimeout = 408, kClientClosed = 499;  // the latter as nginx logs it

Response plain_error(int status, const std::string& code, const std::string& message) {
  return {.status = status, .body = "{\"error\":{\"code\":\"" + code + "\",\"message\":\"" + message + "\"}}"};
}

Response no_memory_response() {
  Response response = plain_error(503, "out_of_memory", "the server has no memory left for this; try again later");
  response.headers.emplace_back("Retry-After", "10");
  return response;
}

// For an exception that is being handled.
Response thrown_response() {
  const bool is_memory = status_of_exception("the request").code() == ErrorCode::kOutOfMemory;
  return is_memory ? no_memory_response() : plain_error(500, "internal", "the server failed at this request");
}

class HttpConnection final : public Connection, public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(Shared& shared, ClientStream stream, std::string peer)
      : shared_(shared), stream_(std::move(stream)), timer_(shared.io), peer_(std::move(peer)) {}

  void abort() override;
  net::awaitable<bool> begin();  // false: no TLS came to be
  net::awaitable<void> run();
  // Answers, ends the connection and logs it; `head` is what is known of the request.
  net::awaitable<void> refuse(Response response, const Request& head);

 private:
  using Parser = fields::request_parser<UploadBody>;
  enum class Next { kRequest, kEnd };
  net::awaitable<Next> serve_one();
  net::awaitable<void> read_failed(const error_code& error, const Request& head);
  net::awaitable<Next> serve_refusal(Parser& parser, Response response, bool is_head);
  net::awaitable<Next> serve_admitted(Parser& parser, Request request);
  net::awaitable<bool> read_body(Parser& parser, BodyPlace& place, const Request& head);
  net::awaitable<void> serve_upgrade(Parser& parser, const Request& head);
  std::optional<Response> refusal(const Request& head);
  net::awaitable<std::optional<Response>> answer(Request request);
  net::awaitable<bool> write(Response& response, bool is_head);
  net::awaitable<bool> write_stream(Response& response, fields::response<fields::empty_body> head);
  net::awaitable<bool> write_bytes(const std::string& bytes, bool chunked);
  net::awaitable<void> discard_rest();
  bool client_is_gone();
  void expire_after(double seconds) { stream_.expires_after(milliseconds_of(seconds)); }
  void log(const Request& head, int status);

  Shared& shared_;
  ClientStream stream_;
  net::steady_timer timer_;
  std::weak_ptr<WaitingAnswer> waiting_;  // while the handler works
  const std::string peer_;
  beast::flat_buffer buffer_;
  bool keep_alive_ = false, aborted_ = false;
  unsigned version_ = 11;
  Clock::time_point begin_ = Clock::now();  // of the request that is served
  uint64_t bytes_in_ = 0, bytes_out_ = 0;   // of the request that is served
};

void HttpConnection::abort() {
  aborted_ = true;
  stream_.close();
  timer_.cancel();
  if (const auto waiting = waiting_.lock()) waiting->timer.cancel();
}

Expected<Request> request_of(const BeastRequest& head, const std::string& peer) {
  Request request;
  request.peer = peer;
  request.method = std::string(head.method_string());
  const std::string target(head.target());
  if (target.empty() || target.front() != '/' || target.size() > kMostPathBytes)
    return invalid_argument("the target must be a path of at most 4096 bytes");
  const size_t mark = std::min(target.find('?'), target.size());
  LA_ASSIGN_OR_RETURN(request.path, percent_decoded(std::string_view(target).substr(0, mark)));
  if (mark < target.size()) request.query = target.substr(mark + 1);
  for (const auto& field : head) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  return request;
}

void HttpConnection::log(const Request& head, int status) {
  shared_.handler.answered({peer_, head.method, head.path, status, bytes_in_, bytes_out_,
                            std::chrono::duration<double>(Clock::now() - begin_).count()});
}

net::awaitable<void> HttpConnection::refuse(Response response, const Request& head) {
  keep_alive_ = false;
  const int status = response.status;
  co_await write(response, false);
  log(head, status);
  co_await discard_rest();
}

// So that the client can read the answer before the connection is reset: what it still sends is read, for a while.
net::awaitable<void> HttpConnection::discard_rest() {
  // Below TLS, whose end would not be read before all of that.
  error_code error;
  stream_.socket().shutdown(tcp::socket::shutdown_send, error);
  stream_.expires_after(1s);
  char dropped[4096];
  for (size_t total = 0; !error && total < (size_t{1} << 20);)
    total += co_await stream_.next_layer().async_read_some(net::buffer(dropped), into(error));
}

// Answers where somebody may still read that, and logs what no response says.
net::awaitable<void> HttpConnection::read_failed(const error_code& error, const Request& head) {
  if (error == no_memory()) {
    co_await refuse(no_memory_response(), head);
  } else if (error == fields::error::body_limit) {
    co_await refuse(plain_error(413, "too_large", "the body is larger than this server takes"), head);
  } else if (error == fields::error::header_limit) {
    co_await refuse(plain_error(431, "too_large", "the request's head is larger than 16 KiB"), head);
  } else if (error.category() == fields::make_error_code(fields::error::bad_method).category() &&
             error != fields::error::end_of_stream && error != fields::error::partial_message) {
    co_await refuse(plain_error(400, "bad_request", "this is no HTTP request"), head);
  } else {
    log(head, error == beast::error::timeout ? kTimeout : kClientClosed);
  }
}

net::awaitable<HttpConnection::Next> HttpConnection::serve_one() {
  Parser parser;
  parser.header_limit(kMostHeaderBytes);
  parser.body_limit(shared_.options.max_body_bytes);
  bytes_in_ = bytes_out_ = 0;
  keep_alive_ = false;
  expire_after(shared_.options.header_timeout_s);
  error_code error;
  co_await fields::async_read_header(stream_, buffer_, parser, into(error));
  begin_ = Clock::now();
  if (error) {  // a connection that ends between two requests is no failure
    const Request unknown;
    if (parser.got_some() || buffer_.size() > 0) co_await read_failed(error, unknown);
    co_return Next::kEnd;
  }
  version_ = parser.get().version();
  auto request = request_of(parser.get(), peer_);
  if (!request.ok()) {
    Request head;
    head.method = std::string(parser.get().method_string());
    co_await refuse(plain_error(400, "bad_request", request.status().message()), head);
    co_return Next::kEnd;
  }
  if (websocket::is_upgrade(parser.get())) {
    co_await serve_upgrade(parser, *request);
    co_return Next::kEnd;
  }
  if (auto refused = refusal(*request)) {
    const int status = refused->status;
    const Next next = co_await serve_refusal(parser, *std::move(refused), request->method == "HEAD");
    log(*request, status);
    co_return next;
  }
  co_return co_await serve_admitted(parser, *std::move(request));
}

std::optional<Response> HttpConnection::refusal(const Request& head) {
  try {
    return shared_.handler.admit(head);
  } catch (...) {
    return thrown_response();
  }
}

net::awaitable<HttpConnection::Next> HttpConnection::serve_refusal(Parser& parser, Response response, bool is_head) {
  const bool has_body = !parser.is_done();
  keep_alive_ = parser.keep_alive() && !has_body;
  const bool sent = co_await write(response, is_head);
  if (has_body) co_await discard_rest();
  co_return sent&& keep_alive_ ? Next::kRequest : Next::kEnd;
}

net::awaitable<HttpConnection::Next> HttpConnection::serve_admitted(Parser& parser, Request request) {
  BodyPlace place(shared_);
  if (!co_await read_body(parser, place, request)) co_return Next::kEnd;
  keep_alive_ = parser.keep_alive();
  request.body = std::move(parser.get().body());
  bytes_in_ = request.body.size();
  const Answering answering(shared_.answering);
  const Request head{request.method, request.path, {}, peer_, {}, {}};
  std::optional<Response> response = co_await answer(std::move(request));
  if (!response) {
    log(head, kClientClosed);
    co_return Next::kEnd;
  }
  const int status = response->status;
  const bool sent = co_await write(*response, head.method == "HEAD");
  log(head, status);
  co_return sent&& keep_alive_ ? Next::kRequest : Next::kEnd;
}

net::awaitable<bool> HttpConnection::read_body(Parser& parser, BodyPlace& place, const Request& head) {
  if (parser.is_done()) co_return true;
  error_code error;
  BodyDeadline deadline(shared_.options.read_timeout_s);
  stream_.expires_at(deadline.at());
  if (beast::iequals(parser.get()[fields::field::expect], "100-continue")) {
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await net::async_write(stream_, net::buffer(go_on), into(error));
  }
  parser.eager(true);
  while (!error && !parser.is_done()) {
    const uint64_t before = parser.get().body().size();
    stream_.expires_at(deadline.at());
    co_await fields::async_read_some(stream_, buffer_, parser, into(error));
    const uint64_t now = parser.get().body().size();
    deadline.received(now - before);
    bytes_in_ = now;
    if (error || place.grow_to(now)) continue;
    parser.get().body() = std::string();  // now, so that the others fit while this one is told
    place.grow_to(0);
    co_await refuse(plain_error(503, "busy", "too many uploads at once; try again"), head);
    co_return false;
  }
  if (error == no_memory()) parser.get().body() = std::string();
  if (error) co_await read_failed(error, head);
  co_return !error;
}

net::awaitable<void> HttpConnection::serve_upgrade(Parser& parser, const Request& head) {
  Upgrade upgrade;
  try {
    upgrade = shared_.handler.upgrade(head);
  } catch (...) {
    upgrade.refused = thrown_response();
  }
  if (upgrade.refused) {
    co_await refuse(*std::move(upgrade.refused), head);
    co_return;
  }
  SocketSetup setup{shared_.options, std::move(upgrade.handler), std::move(upgrade.protocol),
                    [this](std::weak_ptr<Connection> connection) { shared_.enter(std::move(connection)); }};
  const bool was_opened =
      co_await serve_socket(shared_.context(), std::move(stream_), parser.release(), std::move(setup));
  log(head, was_opened ? 101 : 400);
}

// What the handler replies, whenever and wherever it does. Empty: the client has gone. One that has closed its own side
// alone cannot be told from it.
net::awaitable<std::optional<Response>> HttpConnection::answer(Request request) {
  const auto waiting = std::make_shared<WaitingAnswer>(shared_.io);
  waiting_ = waiting;
  std::stop_source gone;
  request.gone = gone.get_token();
  stream_.expires_never();
  {
    auto reply = std::make_shared<PendingReply>(shared_.shared_from_this(), waiting,
                                                plain_error(500, "internal", "the request was given up"));
    try {
      shared_.handler.handle(std::move(request), [reply](Response response) { reply->send(std::move(response)); });
    } catch (...) {
      waiting->response = thrown_response();
    }
  }
  // What is answered at once is answered whatever the client did.
  error_code ignored;
  while (!waiting->response && !aborted_) {
    waiting->timer.expires_after(kStreamPause);
    co_await waiting->timer.async_wait(into(ignored));
    if (!waiting->response && !aborted_ && client_is_gone()) break;
  }
  if (waiting->response) co_return std::move(waiting->response);
  gone.request_stop();
  if (aborted_) co_return plain_error(503, "stopping", "the server ends");
  co_return std::nullopt;
}

net::awaitable<bool> HttpConnection::write(Response& response, bool is_head) {
  fields::response<fields::string_body> out;
  out.version(version_);
  out.result(static_cast<unsigned>(response.status));
  out.keep_alive(keep_alive_);
  out.set(fields::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) out.set(name, value);
  if (response.stream) co_return co_await write_stream(response, fields::response<fields::empty_body>(out.base()));
  if (response.status != 204 && response.status != 304)
    out.content_length(response.stream_bytes.value_or(response.body.size()));
  if (!is_head) out.body() = std::move(response.body);
  bytes_out_ = out.body().size();
  fields::response_serializer<fields::string_body> serializer(out);
  expire_after(shared_.options.write_timeout_s);
  error_code error;
  co_await fields::async_write(stream_, serializer, into(error));
  co_return !error;
}

net::awaitable<bool> HttpConnection::write_bytes(const std::string& bytes, bool chunked) {
  expire_after(shared_.options.write_timeout_s);
  error_code error;
  if (chunked) {
    co_await net::async_write(stream_, fields::make_chunk(net::buffer(bytes)), into(error));
  } else {
    co_await net::async_write(stream_, net::buffer(bytes), into(error));
  }
  bytes_out_ += bytes.size();
  co_return !error;
}

net::awaitable<bool> HttpConnection::write_stream(Response& response, fields::response<fields::empty_body> head) {
  const bool chunked = !response.stream_bytes && version_ == 11;
  if (response.stream_bytes) head.content_length(*response.stream_bytes);
  if (chunked) head.chunked(true);
  if (!chunked && !response.stream_bytes) {
    keep_alive_ = false;
    head.keep_alive(false);
  }
  error_code error;
  fields::response_serializer<fields::empty_body> serializer(head);
  expire_after(shared_.options.write_timeout_s);
  co_await fields::async_write_header(stream_, serializer, into(error));
  if (error) co_return false;
  for (auto state = BodyStream::State::kMore; state != BodyStream::State::kEnd;) {
    std::string bytes;
    state = response.stream->next(bytes);
    if (!bytes.empty() && !co_await write_bytes(bytes, chunked)) co_return false;
    if (state != BodyStream::State::kWait) continue;
    if (aborted_ || client_is_gone()) co_return false;
    timer_.expires_after(kStreamPause);
    co_await timer_.async_wait(into(error));
  }
  // Of a file that was cut meanwhile: the client would take the next response for the rest of this one.
  if (response.stream_bytes && bytes_out_ != *response.stream_bytes) co_return false;
  if (!chunked) co_return true;
  co_await net::async_write(stream_, fields::make_chunk_last(), into(error));
  co_return !error;
}

bool HttpConnection::client_is_gone() {
  // Whatever it sent before: another request, or the end of TLS.
  pollfd connection{stream_.socket().native_handle(), POLLRDHUP, 0};
  return ::poll(&connection, 1, 0) > 0 && (connection.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

net::awaitable<bool> HttpConnection::begin() {
  error_code error;
  expire_after(shared_.options.header_timeout_s);
  co_await stream_.handshake(error);
  co_return !error;
}

net::awaitable<void> HttpConnection::run() {
  Next next = Next::kRequest;
  while (next == Next::kRequest && !aborted_ && !shared_.stopping) next = co_await serve_one();
  co_await stream_.shutdown_send();
}

std::string address_of(const ClientStream& stream) {
  error_code error;
  const tcp::endpoint peer = stream.socket().remote_endpoint(error);
  return error ? std::string("unknown") : peer.address().to_string();
}

}  // namespace

void Shared::enter(std::weak_ptr<Connection> connection) {
  open.remove_if([](const auto& other) { return other.expired(); });
  open.push_back(connection);
  if (stopping)
    if (const auto alive = connection.lock()) alive->abort();
}

void Shared::abort_all() {
  stopping = true;
  for (const auto& connection : open)
    if (const auto alive = connection.lock()) alive->abort();
}

net::awaitable<void> serve_connection(Shared& shared, ClientStream stream) {
  try {
    const std::string peer = address_of(stream);
    const ConnectionPlace place(shared, peer);
    const auto connection = std::make_shared<HttpConnection>(shared, std::move(stream), peer);
    shared.enter(connection);
    if (!co_await connection->begin()) co_return;
    if (place.is_free()) {
      co_await connection->run();
    } else {
      Response full = plain_error(503, "busy", "too many connections; try again");
      full.headers.emplace_back("Retry-After", "1");
      const Request unread;
      co_await connection->refuse(std::move(full), unread);
    }
  } catch (const std::exception&) {  // no memory for this connection: it ends
  }
}

}  // namespace liveavatar::http
