#include "media/connection.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <string>
#include <thread>
#include <utility>

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kStoppedSeconds = 1;  // for what is being written when a stop comes
constexpr const char* kAdvice = "; check the address, and that the server runs";

Clock::duration duration_of(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

int is_over(void* deadline) { return static_cast<Deadline*>(deadline)->passed() ? 1 : 0; }

Status no_answer(const StreamAddress& address, double seconds) {
  char within[32];
  std::snprintf(within, sizeof(within), "%.3g s", seconds);
  return io_error(address.shown + ": does not answer within " + within + kAdvice);
}

Status not_opened(const StreamAddress& address, int code, double seconds) {
  if (code == AVERROR_EXIT) return no_answer(address, seconds);
  if (code == AVERROR_PROTOCOL_NOT_FOUND)
    return unsupported(address.shown +
                       ": FFmpeg here does not know this protocol; install FFmpeg's libraries as Debian has them");
  return io_error(address.shown + ": cannot be reached (" + ffmpeg_error(code) + ")" + kAdvice);
}

}  // namespace

void Deadline::set(double seconds, double stopped_seconds) {
  at_ = Clock::now() + duration_of(seconds);
  stopped_seconds_ = stopped_seconds;
  stopped_ = false;
}

bool Deadline::passed() {
  if (stop_.stop_requested() && !stopped_) {
    stopped_ = true;
    at_ = std::min(at_, Clock::now() + duration_of(stopped_seconds_));
  }
  return Clock::now() >= at_;
}

Connection::~Connection() {
  deadline_.set(kStoppedSeconds, kStoppedSeconds);
  if (io_ != nullptr) avio_closep(&io_);
}

void Connection::allow(double seconds) { deadline_.set(seconds, kStoppedSeconds); }

int Connection::connect() {
  const AVIOInterruptCB interrupt{is_over, &deadline_};
  return avio_open2(&io_, address_.url.c_str(), AVIO_FLAG_WRITE, &interrupt, nullptr);
}

Expected<std::shared_ptr<Connection>> Connection::open(const StreamAddress& address, double seconds,
                                                       const std::stop_token& stop) {
  auto connection = std::make_shared<Connection>(address, stop);
  auto opened = std::make_shared<std::promise<int>>();
  std::future<int> code = opened->get_future();
  connection->deadline_.set(seconds, 0);
  // On a thread that may be left alone: the system's look-up of a name heeds no deadline.
  std::thread([connection, opened] { opened->set_value(connection->connect()); }).detach();
  constexpr std::chrono::milliseconds kStep(10), kMoment(500);
  const Clock::time_point latest = Clock::now() + duration_of(seconds) + kMoment;
  while (code.wait_for(kStep) != std::future_status::ready) {
    if (stop.stop_requested()) return cancelled("stopped while " + address.shown + " was opened");
    if (Clock::now() >= latest) return no_answer(address, seconds);
  }
  const int result = code.get();
  if (stop.stop_requested()) return cancelled("stopped while " + address.shown + " was opened");
  if (result < 0) return not_opened(address, connection->is_late() ? AVERROR_EXIT : result, seconds);
  return connection;
}

}  // namespace liveavatar
