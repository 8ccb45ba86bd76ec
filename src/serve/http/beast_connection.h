// One HTTP connection, and what all of them share.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "serve/http/beast_stream.h"

namespace liveavatar::http {

// On the I/O thread, but for the counts. Owned by the server, by replies that are not given yet, and by sockets: the
// last of them destroys the coroutines that still wait.
struct Shared : std::enable_shared_from_this<Shared> {
  Shared(ServerOptions server_options, Handler& server_handler)
      : options(std::move(server_options)), handler(server_handler) {}

  void abort_all();
  void enter(std::weak_ptr<Connection> connection);

  // Owns all of this, so that the context never outlives what its coroutines use.
  std::shared_ptr<net::io_context> context() { return {shared_from_this(), &io}; }

  const ServerOptions options;
  std::shared_ptr<TlsContext> tls;  // null: plain HTTP
  Handler& handler;
  std::list<std::weak_ptr<Connection>> open;
  std::map<std::string, int> of_client;  // by address
  std::atomic<int> count = 0, answering = 0;
  uint64_t body_bytes = 0;  // of the bodies that are being read
  bool stopping = false;
  net::io_context io{1};  // last, so it ends first: the coroutines that it destroys use the above
};

// To the connection's end. `shared` outlives its I/O context.
net::awaitable<void> serve_connection(Shared& shared, ClientStream stream);

}  // namespace liveavatar::http
