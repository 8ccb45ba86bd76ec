// A clock that stands still until a test moves it.
#pragma once

#include <algorithm>
#include <atomic>
#include <vector>

#include "pipeline/live_clock.h"

namespace liveavatar {

class ManualClock : public LiveClock {
 public:
  Time now() override { return Time(std::chrono::nanoseconds(now_ns_.load())); }
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, Time until) override {
    waiting_mutex_ = lock.mutex();
    waiting_ = &changed;
    if (until > now()) changed.wait(lock);
  }
  void advance(std::chrono::nanoseconds time) {
    now_ns_ += time.count();
    if (std::mutex* mutex = waiting_mutex_) {
      { std::lock_guard lock(*mutex); }
      waiting_.load()->notify_all();
    }
  }

 private:
  std::atomic<int64_t> now_ns_{1'000'000'000};
  std::atomic<std::mutex*> waiting_mutex_{nullptr};
  std::atomic<std::condition_variable*> waiting_{nullptr};
};

}  // namespace liveavatar
