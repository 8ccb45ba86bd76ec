// One HTTP connection, and what all of them share.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "serve/http/beast_types.h"

namespace liveavatar::http {

// On the I/O thread, but for the counts.
struct Shared {
  Shared(std::shared_ptr<net::io_context> context, ServerOptions server_options, Handler& server_handler)
      : io(std::move(context)), options(std::move(server_options)), handler(server_handler) {}

  void abort_all();
  void enter(std::weak_ptr<Connection> connection);

  std::shared_ptr<net::io_context> io;
  const ServerOptions options;
  Handler& handler;
  std::list<std::weak_ptr<Connection>> open;
  std::map<std::string, int> of_client;  // by address
  std::atomic<int> count = 0, answering = 0;
  uint64_t body_bytes = 0;  // of the bodies that are being read
  bool stopping = false;
};

// To the connection's end. `shared` outlives the I/O thread.
net::awaitable<void> serve_connection(Shared& shared, beast::tcp_stream stream);

}  // namespace liveavatar::http
