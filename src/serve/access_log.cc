#include "serve/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "core/errno_text.h"
#include "core/json.h"
#include "core/line_output.h"

namespace liveavatar::serve {

Expected<std::unique_ptr<AccessLog>> AccessLog::open(const std::string& path, Sink sink) {
  std::unique_ptr<AccessLog> log(new AccessLog());
  if (path == "off") return log;
  if (path.empty()) {
    log->sink_ = std::move(sink);
    return log;
  }
  log->file_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (log->file_ < 0)
    return invalid_argument("`access_log` " + path + " cannot be written " + errno_text(errno, "choose another file"));
  return log;
}

AccessLog::~AccessLog() {
  if (file_ >= 0) ::close(file_);
}

namespace {

double unix_now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// "2026-11-30T12:00:00.000Z"
std::string time_text(double unix_seconds) {
  const auto whole = static_cast<std::time_t>(std::floor(unix_seconds));
  std::tm utc{};
  ::gmtime_r(&whole, &utc);
  char day[32], time[48];
  std::strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(time, sizeof(time), "%s.%03dZ", day, static_cast<int>((unix_seconds - double(whole)) * 1000));
  return time;
}

}  // namespace

std::string access_line(const http::Exchange& exchange, double unix_seconds) {
  const nlohmann::ordered_json line{
      {"time", time_text(unix_seconds)}, {"peer", exchange.peer},
      {"method", exchange.method},       {"path", exchange.path},
      {"status", exchange.status},       {"bytes_in", exchange.bytes_in},
      {"bytes_out", exchange.bytes_out}, {"ms", std::round(exchange.seconds * 1e6) / 1e3}};
  return json_text(line);
}

void AccessLog::write(const http::Exchange& exchange) {
  if (sink_ || file_ >= 0) write_line(access_line(exchange, unix_now()));
}

void AccessLog::write_push_error(const std::string& name, const std::string& message) {
  if (!sink_ && file_ < 0) return;
  const nlohmann::ordered_json line{{"time", time_text(unix_now())}, {"push", name}, {"error", message}};
  write_line(json_text(line));
}

void AccessLog::write_line(const std::string& line) {
  std::lock_guard lock(mutex_);
  if (sink_) return sink_(line);
  put_line(file_, line);
}

}  // namespace liveavatar::serve
