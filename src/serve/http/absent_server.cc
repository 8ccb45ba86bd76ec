// In place of beast_*.cc where Boost or OpenSSL is not installed.
#include "serve/http/server.h"

namespace liveavatar::http {

std::string missing_server() { return "built without a server: install libboost-dev and libssl-dev, and build again"; }

Expected<std::unique_ptr<Server>> open_server(const ServerOptions&, Handler&) { return unsupported(missing_server()); }

}  // namespace liveavatar::http
