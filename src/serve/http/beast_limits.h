// What one connection may take of what all of them share.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <utility>

#include "serve/http/beast_connection.h"

namespace liveavatar::http {

// Counts a connection while it lives.
class ConnectionPlace {
 public:
  ConnectionPlace(Shared& shared, std::string peer) : shared_(shared), peer_(std::move(peer)) {
    ++shared_.count;
    of_client_ = ++shared_.of_client[peer_];
  }
  ~ConnectionPlace() {
    --shared_.count;
    const auto at = shared_.of_client.find(peer_);
    if (--at->second == 0) shared_.of_client.erase(at);
  }
  ConnectionPlace(const ConnectionPlace&) = delete;
  ConnectionPlace& operator=(const ConnectionPlace&) = delete;
  bool is_free() const {
    return shared_.count <= shared_.options.max_connections && of_client_ <= shared_.options.max_connections_per_client;
  }

 private:
  Shared& shared_;
  const std::string peer_;
  int of_client_ = 0;
};

// Bytes of a body that is being read, as they come: what is only announced takes no place.
class BodyPlace {
 public:
  explicit BodyPlace(Shared& shared) : shared_(shared) {}
  ~BodyPlace() { shared_.body_bytes -= bytes_; }
  BodyPlace(const BodyPlace&) = delete;
  BodyPlace& operator=(const BodyPlace&) = delete;
  // false: all bodies together are too large.
  bool grow_to(uint64_t bytes) {
    shared_.body_bytes += bytes - bytes_;
    bytes_ = bytes;
    return shared_.body_bytes <= kBodiesAtOnce * shared_.options.max_body_bytes;
  }

 private:
  static constexpr uint64_t kBodiesAtOnce = 4;
  Shared& shared_;
  uint64_t bytes_ = 0;
};

// When a body is too slow: `most` behind kSlowestBytesPerSecond. Being early before does not help, so that nobody can
// send quickly and then hold the place.
class BodyDeadline {
 public:
  using Clock = std::chrono::steady_clock;
  explicit BodyDeadline(double most_s) : most_(milliseconds_of(most_s)), at_(Clock::now() + most_) {}
  void received(uint64_t bytes) {
    const std::chrono::nanoseconds earned(bytes * std::nano::den / kSlowestBytesPerSecond);
    at_ = std::min(at_ + earned, Clock::now() + most_);
  }
  Clock::time_point at() const { return at_; }

 private:
  static constexpr uint64_t kSlowestBytesPerSecond = 64 << 10;
  const std::chrono::nanoseconds most_;
  Clock::time_point at_;
};

// A request that is being answered, while it lives.
class Answering {
 public:
  explicit Answering(std::atomic<int>& count) : count_(count) { ++count_; }
  ~Answering() { --count_; }
  Answering(const Answering&) = delete;
  Answering& operator=(const Answering&) = delete;

 private:
  std::atomic<int>& count_;
};

}  // namespace liveavatar::http
