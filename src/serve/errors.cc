#include "serve/errors.h"

#include "core/json.h"

namespace liveavatar::serve {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return "ok";
    case ErrorCode::kInvalidArgument:
      return "invalid_argument";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kUnsupported:
      return "unsupported";
  }
  return "unknown";
}

int http_status(const Status& status) {
  switch (status.code()) {
    case ErrorCode::kOk:
      return 200;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kOutOfMemory:
    case ErrorCode::kCancelled:
      return 503;
    case ErrorCode::kIo:
      return 500;
    default:
      return 400;
  }
}

http::Response error_response(int status, const std::string& code, const std::string& message) {
  const nlohmann::ordered_json body{{"error", {{"code", code}, {"message", message}}}};
  return {.status = status, .body = json_text(body)};
}

http::Response error_response(const Status& status) {
  return error_response(http_status(status), code_name(status.code()), status.message());
}

http::Response busy_response(const std::string& code, const std::string& message, int retry_after_s) {
  http::Response response = error_response(503, code, message);
  response.headers.emplace_back("Retry-After", std::to_string(retry_after_s));
  return response;
}

std::string without_path(std::string message, const std::string& path, const std::string& name) {
  if (path.empty()) return message;
  for (size_t at = message.find(path); at != std::string::npos; at = message.find(path, at + name.size()))
    message.replace(at, path.size(), name);
  return message;
}

std::string failure_of(const std::string& who, const Status& status) {
  switch (status.code()) {
    case ErrorCode::kIo:
    case ErrorCode::kCorrupt:
    case ErrorCode::kOutOfMemory:
      return who + " " + status.message();
    default:
      return status.message();
  }
}

}  // namespace liveavatar::serve
