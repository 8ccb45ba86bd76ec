// The server over real sockets, with handlers that misbehave.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <mutex>
#include <thread>

#include "serve/http/server.h"

namespace liveavatar::http {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class FakeHandler : public Handler {
 public:
  std::optional<Response> admit(const Request&) override { return {}; }
  void handle(Request request, Reply reply) override { on_request(std::move(request), std::move(reply)); }
  Upgrade upgrade(const Request&) override {
    if (!socket) return {Response{.status = 404}, nullptr, {}};
    return {{}, socket, {}};
  }
  void answered(const Exchange& exchange) override {
    std::lock_guard lock(mutex);
    exchanges.push_back(exchange);
  }

  std::shared_ptr<SocketHandler> socket;
  std::function<void(Request, Reply)> on_request = [](const Request&, const Reply& reply) { reply({.body = "{}"}); };
  std::mutex mutex;
  std::vector<Exchange> exchanges;
};

// Closes at the first message.
class ClosingSocket : public SocketHandler {
 public:
  void on_open(std::shared_ptr<Socket> opened) override { socket_ = std::move(opened); }
  void on_text(std::string_view) override { socket_->close(1008, "enough"); }
  void on_binary(std::string_view) override {}
  void on_closed() override {
    socket_.reset();
    closed.set_value();
  }
  std::promise<void> closed;

 private:
  std::shared_ptr<Socket> socket_;
};

class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{30, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  void send(const std::string& text) const { ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL); }
  void end_sending() const { ::shutdown(fd_, SHUT_WR); }
  // Until that has come, or the connection's end.
  std::string read_until(const std::string& end) const {
    std::string all;
    char byte = 0;
    while (!all.ends_with(end) && ::recv(fd_, &byte, 1, 0) == 1) all += byte;
    return all;
  }
  // To the connection's end.
  std::string read_all() const {
    std::string all;
    char piece[4096];
    for (ssize_t got = 0; (got = ::recv(fd_, piece, sizeof(piece), 0)) > 0;) all.append(piece, size_t(got));
    return all;
  }

 private:
  const int fd_;
};

class HttpServer : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!missing_server().empty()) GTEST_SKIP() << missing_server();
    options.port = 0;
    options.header_timeout_s = options.read_timeout_s = 1;
  }
  void open() {
    auto opened = open_server(options, handler);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    server = *std::move(opened);
  }
  std::string ask(const std::string& request) const {
    const Client client(server->port());
    client.send(request);
    return client.read_all();
  }
  // Of so many exchanges, as soon as they are there.
  std::vector<int> statuses_of(size_t count) {
    std::vector<int> statuses;
    for (const auto end = Clock::now() + 20s; statuses.size() < count && Clock::now() < end;) {
      std::this_thread::sleep_for(5ms);
      std::lock_guard lock(handler.mutex);
      statuses.clear();
      for (const Exchange& exchange : handler.exchanges) statuses.push_back(exchange.status);
    }
    return statuses;
  }

  ServerOptions options;
  FakeHandler handler;
  std::unique_ptr<Server> server;
};

constexpr const char* kGet = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";

TEST_F(HttpServer, AnswersWhereTheHandlerForgetsTo) {
  handler.on_request = [](const Request&, const Reply&) {};
  open();
  EXPECT_NE(ask(kGet).find(" 500 "), std::string::npos);
}

TEST_F(HttpServer, AnswersWhereTheHandlerHasNoMemory) {
  handler.on_request = [](const Request&, const Reply&) { throw std::bad_alloc(); };
  open();
  const std::string answer = ask(kGet);
  EXPECT_NE(answer.find(" 503 "), std::string::npos) << answer;
  EXPECT_NE(answer.find("\"out_of_memory\""), std::string::npos) << answer;
  handler.on_request = [](const Request&, const Reply& reply) { reply({.body = "{}"}); };
  EXPECT_NE(ask(kGet).find(" 200 "), std::string::npos);
}

TEST_F(HttpServer, TellsTheHandlerThatAClientHasGone) {
  std::promise<std::stop_token> told;
  std::vector<Reply> kept;
  handler.on_request = [&](const Request& request, Reply reply) {
    kept.push_back(std::move(reply));
    told.set_value(request.gone);
  };
  open();
  for (const bool half : {false, true}) {
    told = {};
    std::optional<Client> client(std::in_place, server->port());
    client->send(kGet);
    const std::stop_token gone = told.get_future().get();
    EXPECT_FALSE(gone.stop_requested());
    if (half) {
      client->end_sending();
    } else {
      client.reset();
    }
    for (const auto end = Clock::now() + 10s; !gone.stop_requested() && Clock::now() < end;)
      std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(gone.stop_requested()) << half;
  }
  EXPECT_EQ(statuses_of(2), (std::vector<int>{499, 499}));
  for (const Reply& reply : kept) reply({.body = "{}"});  // too late
}

TEST_F(HttpServer, EndsAtOnceWhileARequestWaitsAndTakesItsReplyAfterwards) {
  std::promise<Reply> taken;
  handler.on_request = [&](const Request&, Reply reply) { taken.set_value(std::move(reply)); };
  open();
  const Client client(server->port());
  client.send(kGet);
  Reply reply = taken.get_future().get();
  const Clock::time_point begin = Clock::now();
  server.reset();
  EXPECT_LT(Clock::now() - begin, 3s);  // it gives up after 5 s
  EXPECT_EQ(client.read_all(), "");
  reply({.body = "{}"});
  reply = nullptr;  // the last that holds what the server was
}

TEST_F(HttpServer, GivesNoPlaceToBodiesThatAreOnlyAnnounced) {
  options.max_body_bytes = 1000;
  options.read_timeout_s = 30;
  open();
  std::vector<std::unique_ptr<Client>> idle;
  for (int i = 0; i < 10; ++i) {
    idle.push_back(std::make_unique<Client>(server->port()));
    idle.back()->send("POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc");
  }
  while (server->connections() < 10) std::this_thread::sleep_for(5ms);
  const std::string post = "POST / HTTP/1.1\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n";
  EXPECT_NE(ask(post + std::string(1000, 'x')).find(" 200 "), std::string::npos);
}

TEST_F(HttpServer, RefusesABodyWhereAllTogetherAreTooLarge) {
  options.max_body_bytes = 1000;
  options.read_timeout_s = 30;
  open();
  std::vector<std::unique_ptr<Client>> slow;
  const std::string post = "POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
  for (int i = 0; i < 5; ++i) {
    slow.push_back(std::make_unique<Client>(server->port()));
    slow.back()->send(post + std::string(999, 'x'));
  }
  EXPECT_EQ(statuses_of(1), std::vector<int>{503});
}

TEST_F(HttpServer, CutsOffABodyThatStopsHoweverMuchIsAnnounced) {
  options.max_body_bytes = 8 << 20;
  open();
  const Client client(server->port());
  const Clock::time_point begin = Clock::now();
  client.send("POST / HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n" + std::string(4000000, 'x'));
  client.read_all();
  EXPECT_LT(Clock::now() - begin, 20s);
}

const std::string kHandshake =
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const std::string kText("\x81\x81\0\0\0\0x", 7), kReservedOpcode("\x83\x80\0\0\0\0", 6);
const std::string kPing("\x89\x80\0\0\0\0", 6);
const std::string kClose("\x88\x82\0\0\0\0\x03\xf0", 8);

TEST_F(HttpServer, TellsWhyItClosesASocket) {
  const auto socket = std::make_shared<ClosingSocket>();
  handler.socket = socket;
  open();
  const Client client(server->port());
  client.send(kHandshake);
  client.read_until("\r\n\r\n");
  client.send(kText);
  EXPECT_EQ(client.read_until("enough"),
            "\x88\x08\x03\xf0"
            "enough");
  client.send(kClose);
  EXPECT_EQ(client.read_all(), "");
}

// The answer to the ping lets a close of Beast's in before the wrong frame is read: each would wait for the other.
TEST_F(HttpServer, EndsASocketWhoseClientBreaksTheRulesWhileItIsClosed) {
  for (const bool at_once : {true, false}) {
    const auto socket = std::make_shared<ClosingSocket>();
    handler.socket = socket;
    if (!server) open();
    {
      const Client client(server->port());
      client.send(kHandshake);
      client.read_until("\r\n\r\n");
      client.send(at_once ? kText + kPing + kReservedOpcode : kText);
      if (!at_once) client.read_until("enough");
      if (!at_once) client.send(kReservedOpcode);
      client.read_all();
    }
    EXPECT_EQ(socket->closed.get_future().wait_for(20s), std::future_status::ready);
  }
}

class ShortStream : public BodyStream {
 public:
  State next(std::string& out) override {
    out = "abc";
    return State::kEnd;
  }
};

TEST_F(HttpServer, ClosesWhereAStreamIsShorterThanItsLength) {
  handler.on_request = [](const Request&, const Reply& reply) {
    reply({.stream = std::make_shared<ShortStream>(), .stream_bytes = 10});
  };
  open();
  const std::string answers = ask("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(answers.ends_with("\r\n\r\nabc")) << answers;
  EXPECT_EQ(answers.find("HTTP/1.1 200"), answers.rfind("HTTP/1.1 200"));
}

TEST_F(HttpServer, LogsWhatFails) {
  options.max_body_bytes = 1000;
  open();
  ask("nonsense\r\n\r\n");
  ask("GET / HTTP/1.1\r\nx: " + std::string(20000, 'x') + "\r\n\r\n");
  ask("GET x HTTP/1.1\r\n\r\n");
  ask("POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n");
  ask("GET / HT");                                          // times out
  ask("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");  // so does this
  ask("");                                                  // this does too, but it is no request
  Client(server->port()).send("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(statuses_of(7), (std::vector<int>{400, 431, 400, 413, 408, 408, 499}));
}

TEST_F(HttpServer, ClosesConnectionsThatAreFarTooManyWithoutAnAnswer) {
  options.max_connections = 1;
  options.max_connections_per_client = 1000;
  open();
  std::vector<std::unique_ptr<Client>> many;
  for (int i = 0; i < 60; ++i) {  // those that are refused stay a second, since they do not close
    many.push_back(std::make_unique<Client>(server->port()));
    EXPECT_LE(server->connections(), 1 + 32);
  }
  const auto unanswered =
      std::count_if(many.begin() + 1, many.end(), [](const auto& one) { return one->read_all().empty(); });
  EXPECT_GT(unanswered, 0);
}

}  // namespace
}  // namespace liveavatar::http
