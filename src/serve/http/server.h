// An HTTP and WebSocket server on one thread. Where it was built without Boost or OpenSSL, open_server()
// says so.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"
#include "serve/http/message.h"

namespace liveavatar::http {

struct ServerOptions {
  std::string host = "127.0.0.1";                  // an address
  int port = 8080;                                 // 0: any that is free
  int listen_fd = -1;                              // a socket that listens already (of systemd); -1: none
  std::string tls_certificate_file, tls_key_file;  // PEM, the chain and its key; empty: plain HTTP
  uint64_t max_body_bytes = 64 << 20;
  size_t max_message_bytes = 16 << 20;  // of a WebSocket
  int max_connections = 256, max_connections_per_client = 64;
  double header_timeout_s = 10;  // for a request's head, and between two requests
  // A body may be so late behind 64 KiB a second: what comes sooner does not make this longer.
  double read_timeout_s = 30;
  double write_timeout_s = 30;  // for each piece of a response
  size_t send_queue_bytes = 8 << 20;
};

// A message of a WebSocket; shared, so that it is never copied.
struct Message {
  bool is_text = false;
  std::shared_ptr<const std::string> data;
};

// The sending side of a WebSocket. Any thread.
class Socket {
 public:
  virtual ~Socket() = default;
  enum class Sent { kQueued, kClosed, kTooSlow };
  // Waits so long while the queue has no room: kTooSlow. Not on the I/O thread.
  virtual Sent send(Message message, std::chrono::milliseconds patience) = 0;
  // Does not wait. false: it is closed, or so much waits that the client is dropped.
  virtual bool post(Message message) = 0;
  // After what is queued, and in 30 s at most; a second call does nothing.
  virtual void close(int code, const std::string& reason) = 0;
  // At once: what is queued is dropped, and after 5 s the connection.
  virtual void drop(int code, const std::string& reason) = 0;
};

// The receiving side. All calls on the I/O thread, and none may wait.
class SocketHandler {
 public:
  virtual ~SocketHandler() = default;
  virtual void on_open(std::shared_ptr<Socket> socket) = 0;
  virtual void on_text(std::string_view text) = 0;
  virtual void on_binary(std::string_view bytes) = 0;
  virtual void on_closed() = 0;  // once, last; also where it was never opened
};

struct Upgrade {
  std::optional<Response> refused;
  std::shared_ptr<SocketHandler> handler;
  std::string protocol;  // of Sec-WebSocket-Protocol; empty: none
};

// A request that has been answered, or a WebSocket that has ended (status 101).
struct Exchange {
  std::string peer, method, path;
  int status = 0;
  uint64_t bytes_in = 0, bytes_out = 0;  // of bodies
  double seconds = 0;
};

// All calls on the I/O thread, and none may wait.
class Handler {
 public:
  virtual ~Handler() = default;
  // Before the body is read. A response refuses the request.
  virtual std::optional<Response> admit(const Request& head) = 0;
  virtual void handle(Request request, Reply reply) = 0;
  virtual Upgrade upgrade(const Request& head) = 0;
  virtual void answered(const Exchange& exchange) = 0;
};

class Server {
 public:
  virtual ~Server() = default;  // stop()
  virtual int port() const = 0;
  virtual int connections() const = 0;
  virtual int answering() const = 0;  // requests whose response is not sent yet; no sockets
  // Closes all connections and ends the thread. A second call does nothing.
  virtual void stop() = 0;
};

// Listens and serves on a thread of its own. The handler outlives the server.
Expected<std::unique_ptr<Server>> open_server(const ServerOptions& options, Handler& handler);

// "" where this program has a server; else what is missing and what to install.
std::string missing_server();

}  // namespace liveavatar::http
