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
constexpr const char* kSrtAdvice =
    "; check host and port (UDP), that a listener waits there, and passphrase and streamid";

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
  return io_error(address.shown + ": cannot be reached (" + stream_error(address, code) + ")" +
                  (address.kind == StreamAddress::Kind::kSrt ? kSrtAdvice : kAdvice));
}

}  // namespace

// FFmpeg has one error for all of SRT.
std::string stream_error(const StreamAddress& address, int code) {
  const bool says_nothing = code == AVERROR(EIO) || code == AVERROR_UNKNOWN || code == AVERROR_EXTERNAL;
  const bool is_srt = address.kind == StreamAddress::Kind::kSrt;
  return is_srt && says_nothing ? "the receiver refused or ended the connection, or there is none" : ffmpeg_error(code);
}

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

struct Connector::Try {
  std::shared_ptr<Connection> connection;
  std::promise<int> code;
};

Expected<std::shared_ptr<Connection>> Connector::open(double seconds, const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kStep(5), kMoment(500);
  const Status stopped = cancelled("stopped while " + address_.shown + " was opened");
  const Clock::time_point latest = Clock::now() + duration_of(seconds);
  auto wait_for = [&](const auto& is_done, Clock::time_point end) -> Status {
    while (!is_done()) {
      if (stop.stop_requested()) return stopped;
      if (Clock::now() >= end) return no_answer(address_, seconds);
      std::this_thread::sleep_for(kStep);
    }
    return {};
  };
  LA_RETURN_IF_ERROR(wait_for([this] { return last_.expired(); }, latest));

  auto connection = std::make_shared<Connection>(address_, stop);
  connection->deadline_.set(std::chrono::duration<double>(latest - Clock::now()).count(), 0);
  auto one = std::make_shared<Try>(Try{connection, {}});
  std::future<int> code = one->code.get_future();
  last_ = one;
  // On a thread that may be left alone: the system's look-up of a name heeds no deadline.
  std::thread([one = std::move(one)] { one->code.set_value(one->connection->connect()); }).detach();
  auto has_code = [&] { return code.wait_for(Clock::duration::zero()) == std::future_status::ready; };
  const Status waited = wait_for(has_code, latest + kMoment);
  // A stop ends all but a look-up in a moment. At the process' end a thread would use what is destroyed by then.
  const Clock::time_point left = Clock::now() + kMoment;
  while (!waited.ok() && !last_.expired() && Clock::now() < left) std::this_thread::sleep_for(kStep);
  LA_RETURN_IF_ERROR(waited);
  const int result = code.get();
  if (stop.stop_requested()) return stopped;
  if (result < 0) return not_opened(address_, connection->is_late() ? AVERROR_EXIT : result, seconds);
  return connection;
}

}  // namespace liveavatar
