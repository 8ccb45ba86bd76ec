// The bytes of a connection, sent to the real server over a local socket. The first byte says what they are:
//   0  a connection as it comes
//   1  what follows the handshake of a WebSocket
//   2  the same as frames whose lengths are right: a byte of flags and opcode, a byte of length, so many bytes
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "must.h"
#include "serve/http/server.h"
#include "serve/live_events.h"
#include "serve/routes.h"
#include "serve/video_fields.h"

namespace {

using namespace liveavatar;
using namespace liveavatar::http;

// Answers each event, as a live session does, and ends as that does.
class Echo : public SocketHandler {
 public:
  void on_open(std::shared_ptr<Socket> socket) override { socket_ = std::move(socket); }
  void on_text(std::string_view text) override {
    const auto event = serve::parse_live_event(text);
    const std::string answer = event.ok() ? event->body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                                          : serve::error_event(400, "wrong", event.status().message());
    socket_->post({true, std::make_shared<const std::string>(answer)});
    if (event.ok() && event->type == serve::LiveEvent::Type::kStop) socket_->close(1000, "stop");
    if (event.ok() && event->type == serve::LiveEvent::Type::kInterrupt) socket_->drop(1008, "interrupt");
  }
  void on_binary(std::string_view bytes) override {
    socket_->post({false, std::make_shared<const std::string>(bytes)});
  }
  void on_closed() override { socket_.reset(); }

 private:
  std::shared_ptr<Socket> socket_;
};

// Refuses and reads as the server does, without an engine.
class Reader : public Handler {
 public:
  std::optional<Response> admit(const Request& head) override {
    const serve::RouteMatch match = serve::match_route(head.method, head.path);
    if (match.route == nullptr) return Response{.status = match.allowed.empty() ? 404 : 405, .body = "{}"};
    if (match.route->body == serve::RouteBody::kNone && head.announces_body())
      return Response{.status = 400, .body = "{}"};
    return {};
  }
  void handle(Request request, Reply reply) override {
    const std::string type(request.header("content-type"));
    int status = 200;
    if (serve::is_video_body(type)) status = serve::parse_video_inputs(type, request.body).ok() ? 202 : 400;
    reply({.status = status, .body = std::move(request.body)});
  }
  Upgrade upgrade(const Request& head) override {
    if (head.path != "/v1/live") return {Response{.status = 404}, nullptr, {}};
    return {{}, std::make_shared<Echo>(), {}};
  }
  void answered(const Exchange& exchange) override {
    fuzz::must(exchange.status >= 100 && exchange.status < 600, "an exchange has a status");
  }
};

struct Served {
  Served() {
    ServerOptions options;
    options.port = 0;
    options.max_body_bytes = 64 << 10;
    options.max_message_bytes = 64 << 10;
    auto opened = open_server(options, reader);
    fuzz::must(opened.ok(), "the server listens");
    server = *std::move(opened);
  }
  Reader reader;
  std::unique_ptr<Server> server;
};

constexpr const char* kHandshake =
    "GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

std::string frames_of(std::string_view text) {
  std::string frames;
  while (text.size() >= 2) {
    const auto length = static_cast<unsigned char>(text[1]) % 126u;
    const std::string_view payload = text.substr(2, length);
    frames += text[0];
    frames += static_cast<char>(0x80 | payload.size());
    frames.append(4, '\0');  // the mask
    frames += payload;
    text.remove_prefix(std::min(text.size(), 2 + payload.size()));
  }
  return frames;
}

// Once more where a signal came, as libFuzzer's timer sends them.
template <typename Call>
ssize_t uninterrupted(Call&& call) {
  ssize_t got = call();
  while (got < 0 && errno == EINTR) got = call();
  return got;
}

class Connection {
 public:
  explicit Connection(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool is_connected = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    fuzz::must(is_connected, "the server accepts");
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = uninterrupted([&] { return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
      if (sent <= 0) return;  // the server has refused it
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // A client may send frames when it has the answer.
  void shake_hands() const {
    send(kHandshake);
    std::string answer;
    char byte = 0;
    while (!answer.ends_with("\r\n\r\n") && uninterrupted([&] { return ::recv(fd_, &byte, 1, 0); }) == 1)
      answer += byte;
    fuzz::must(answer.starts_with("HTTP/1.1 101 "), "a handshake is answered");
  }
  // Says that no more comes, and reads to the end.
  void finish() const {
    ::shutdown(fd_, SHUT_WR);
    char dropped[16384];
    while (uninterrupted([&] { return ::recv(fd_, dropped, sizeof(dropped), 0); }) > 0) {
    }
  }

 private:
  const int fd_;
};

void visit(int port, std::string_view text) {
  if (text.empty()) return;
  const int kind = static_cast<unsigned char>(text[0]) % 3;
  text.remove_prefix(1);
  const Connection connection(port);
  if (kind != 0) connection.shake_hands();
  connection.send(kind == 2 ? frames_of(text) : std::string(text));
  connection.finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static Served served;
  constexpr size_t kMostBytes = 128 << 10;  // what sockets hold, so that nobody waits
  const std::string_view text(reinterpret_cast<const char*>(data), std::min(bytes, kMostBytes));
  visit(served.server->port(), text);
  while (served.server->connections() > 0) std::this_thread::yield();
  return 0;
}
