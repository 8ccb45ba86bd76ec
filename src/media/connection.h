// An address that FFmpeg has open for writing, with an end for every wait.
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "core/status.h"
#include "media/ffmpeg.h"
#include "media/stream_address.h"

namespace liveavatar {

// When a wait ends: at a time, or soon after a stop. One thread at a time.
class Deadline {
 public:
  explicit Deadline(std::stop_token stop) : stop_(std::move(stop)) {}
  // From now on; after a stop at most stopped_seconds more.
  void set(double seconds, double stopped_seconds);
  bool passed();

 private:
  using Clock = std::chrono::steady_clock;
  const std::stop_token stop_;
  Clock::time_point at_{};
  double stopped_seconds_ = 0;
  bool stopped_ = false;
};

class Connection {
 public:
  Connection(const StreamAddress& address, std::stop_token stop) : address_(address), deadline_(std::move(stop)) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();  // within a second

  AVIOContext* io() { return io_; }
  // What is written next may wait so long.
  void allow(double seconds);
  // Whether it waited for all of that.
  bool is_late() { return deadline_.passed(); }

 private:
  friend class Connector;
  int connect();

  const StreamAddress address_;
  Deadline deadline_;
  AVIOContext* io_ = nullptr;
};

// FFmpeg's error in words.
std::string stream_error(const StreamAddress& address, int code);

// Opens connections to an address, one thread at a time.
class Connector {
 public:
  explicit Connector(StreamAddress address) : address_(std::move(address)) {}
  const StreamAddress& address() const { return address_; }

  // Ends within `seconds`, also where the look-up of the host's name does not: kIo, or kCancelled after a stop. That
  // look-up goes on, and the next try waits for its end, so that there is one at most.
  Expected<std::shared_ptr<Connection>> open(double seconds, const std::stop_token& stop);

 private:
  struct Try;

  const StreamAddress address_;
  std::weak_ptr<Try> last_;  // lives as long as its thread
};

}  // namespace liveavatar
