// A WebSocket over a client's connection.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "serve/http/beast_stream.h"

namespace liveavatar::http {

struct SocketSetup {
  ServerOptions options;
  std::shared_ptr<SocketHandler> handler;
  std::string protocol;
  std::function<void(std::weak_ptr<Connection>)> enter;  // tells who is to be aborted
};
// Serves an upgraded connection to its end; false: it was never opened, since the handshake was wrong.
net::awaitable<bool> serve_socket(std::shared_ptr<net::io_context> io, ClientStream stream, BeastRequest request,
                                  SocketSetup setup);

}  // namespace liveavatar::http
