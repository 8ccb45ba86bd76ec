// Frames at their time.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <utility>

namespace liveavatar {

// Frames at their time: 25 a second from the first one on. A job that is slower is not held up.
class Pacer {
 public:
  Pacer(int fps, std::stop_token stop) : fps_(fps), stop_(std::move(stop)) {}
  void wait_for(int64_t frame) {
    if (!begun_) restart(frame);
    const auto since_begin = std::chrono::duration<double>(double(frame - first_) / fps_);
    const auto due = begin_ + std::chrono::duration_cast<Clock::duration>(since_begin);
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, stop_, due, [] { return false; });
  }
  // The frame is due now.
  void restart(int64_t frame) {
    begun_ = true;
    begin_ = Clock::now();
    first_ = frame;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const int fps_;
  const std::stop_token stop_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool begun_ = false;
  Clock::time_point begin_{};
  int64_t first_ = 0;
};

}  // namespace liveavatar
