// Listens, and serves each HTTP connection by a coroutine. All on one thread.
#include <sys/socket.h>

#include <cstdio>
#include <thread>
#include <utility>

#include "core/boundary.h"
#include "serve/http/beast_connection.h"

namespace liveavatar::http {
namespace {

using namespace std::chrono_literals;
constexpr int kMostRefusedAtOnce = 32;

class BeastServer final : public Server {
 public:
  BeastServer(const ServerOptions& options, Handler& handler)
      : shared_(std::make_shared<Shared>(options, handler)), io_(shared_->io), acceptor_(io_) {}
  ~BeastServer() override { stop(); }
  Status listen();
  int port() const override { return port_; }
  int connections() const override { return shared_->count; }
  int answering() const override { return shared_->answering; }
  void stop() override;

 private:
  Status adopt(int fd);
  Status bind();
  void run();
  net::awaitable<void> accept_all();
  net::awaitable<bool> accept_one();  // false: not now, try again later

  const std::shared_ptr<Shared> shared_;  // first: the others belong to its context
  net::io_context& io_;
  tcp::acceptor acceptor_;
  int port_ = 0;
  bool has_warned_ = false;
  std::thread thread_;
};

Status BeastServer::adopt(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
      (address.ss_family != AF_INET && address.ss_family != AF_INET6))
    return invalid_argument("the socket that the service manager passed (descriptor " + std::to_string(fd) +
                            ") is no TCP socket; give one by ListenStream=PORT");
  error_code error;
  acceptor_.assign(address.ss_family == AF_INET ? tcp::v4() : tcp::v6(), fd, error);
  if (error) return io_error("the socket that the service manager passed cannot be used: " + error.message());
  return {};
}

Status BeastServer::bind() {
  const ServerOptions& o = shared_->options;
  const std::string where = o.host + ":" + std::to_string(o.port);
  error_code error;
  const net::ip::address address = net::ip::make_address(o.host, error);
  if (error)
    return invalid_argument("`host` " + o.host +
                            ": no address; choose 127.0.0.1, 0.0.0.0, :: or another of this machine");
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(o.port));
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(net::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(net::socket_base::max_listen_connections, error);
  if (error)
    return io_error(where + " cannot be listened at: " + error.message() + "; choose another `port` or `host`");
  return {};
}

Status BeastServer::listen() {
  const ServerOptions& o = shared_->options;
  if (!o.tls_certificate_file.empty()) {
    LA_ASSIGN_OR_RETURN(shared_->tls, load_tls(o.tls_certificate_file, o.tls_key_file));
  }
  LA_RETURN_IF_ERROR(shared_->options.listen_fd >= 0 ? adopt(shared_->options.listen_fd) : bind());
  error_code error;
  port_ = acceptor_.local_endpoint(error).port();
  net::co_spawn(io_, accept_all(), net::detached);
  thread_ = std::thread([this] { run(); });
  return {};
}

void BeastServer::run() {
  for (;;) {
    try {
      io_.run();
      return;
    } catch (const std::exception&) {  // of one operation; the others go on
    }
  }
}

// Nothing ends it but stop(): no lack of descriptors or memory.
net::awaitable<void> BeastServer::accept_all() {
  net::steady_timer pause(io_);
  for (bool is_well = true; acceptor_.is_open();) {
    try {
      error_code ignored;
      pause.expires_after(is_well ? 0ms : 100ms);
      if (!is_well) co_await pause.async_wait(into(ignored));
      is_well = false;  // also where the next line throws
      is_well = co_await accept_one();
    } catch (const std::exception&) {  // no memory for this connection
    }
  }
}

net::awaitable<bool> BeastServer::accept_one() {
  error_code error;
  tcp::socket socket(io_);
  co_await acceptor_.async_accept(socket, into(error));
  if (!acceptor_.is_open()) co_return true;
  if (error) {
    if (!std::exchange(has_warned_, true))
      std::fprintf(stderr, "a connection cannot be accepted: %s; told once\n", error.message().c_str());
    co_return false;
  }
  // A few more are told that there are too many; the others would take all descriptors for that.
  if (shared_->count >= shared_->options.max_connections + kMostRefusedAtOnce) co_return true;
  net::co_spawn(io_, serve_connection(*shared_, ClientStream(std::move(socket), shared_->tls.get())), net::detached);
  co_return true;
}

void BeastServer::stop() {
  if (!thread_.joinable()) return;
  net::post(io_, [this] {
    error_code ignored;
    acceptor_.close(ignored);
    shared_->abort_all();
  });
  // Ends by itself when the last coroutine has ended.
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  while (!io_.stopped() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(5ms);
  io_.stop();
  thread_.join();
}

}  // namespace

std::string missing_server() { return {}; }

Expected<std::unique_ptr<Server>> open_server(const ServerOptions& options, Handler& handler) {
  return contained("the server", [&]() -> Expected<std::unique_ptr<Server>> {
    auto server = std::make_unique<BeastServer>(options, handler);
    LA_RETURN_IF_ERROR(server->listen());
    return std::unique_ptr<Server>(std::move(server));
  });
}

}  // namespace liveavatar::http
