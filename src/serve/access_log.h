// One JSON line for each request.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "core/status.h"
#include "serve/http/server.h"

namespace liveavatar::serve {

// Any thread.
class AccessLog {
 public:
  using Sink = std::function<void(const std::string& line)>;
  // path: lines are appended to it; empty: they go to the sink; "off": nowhere. kInvalidArgument: it cannot be written.
  static Expected<std::unique_ptr<AccessLog>> open(const std::string& path, Sink sink);
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;
  void write(const http::Exchange& exchange);
  // {"time":...,"push":name,"error":message}
  void write_push_error(const std::string& name, const std::string& message);

 private:
  AccessLog() = default;
  void write_line(const std::string& line);
  std::mutex mutex_;
  Sink sink_;
  int file_ = -1;
};

// {"time":"2026-11-30T12:00:00.000Z","peer":...}; without a query, which may hold secrets.
std::string access_line(const http::Exchange& exchange, double unix_seconds);

}  // namespace liveavatar::serve
