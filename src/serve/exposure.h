// Where the server can be reached from.
#pragma once

#include "serve/http/server.h"

namespace liveavatar::serve {

// "127.0.0.1" or "::1", without brackets.
bool is_address(const std::string& text);

// From this machine alone, as the address says that it will listen at, or that the service manager's socket has. What
// is no address counts as such: opening the server says what is wrong with it.
bool is_local_only(const http::ServerOptions& options);

}  // namespace liveavatar::serve
