// Errors as HTTP says them: {"error":{"code":"out_of_memory","message":"..."}}.
#pragma once

#include <string>

#include "serve/http/message.h"

namespace liveavatar::serve {

// "invalid_argument", "out_of_memory", ...
const char* code_name(ErrorCode code);
// 400 for what a client can do otherwise, 404, 503 for memory, 500 for the server's disk.
int http_status(const Status& status);

http::Response error_response(int status, const std::string& code, const std::string& message);
http::Response error_response(const Status& status);
// 503 with Retry-After.
http::Response busy_response(const std::string& code, const std::string& message, int retry_after_s);

// A message without the name of our own file, which tells a client nothing.
std::string without_path(std::string message, const std::string& path, const std::string& name);

// What `who`, "the chat" or "the voice", did wrong: "the chat answered 500". A text that the client sent wrong is told
// by a whole sentence, which stays as it is.
std::string failure_of(const std::string& who, const Status& status);

}  // namespace liveavatar::serve
