// The time of live sessions, so that tests need not wait for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace liveavatar {

class LiveClock {
 public:
  using Time = std::chrono::steady_clock::time_point;
  virtual ~LiveClock() = default;
  virtual Time now() { return std::chrono::steady_clock::now(); }
  // Until then or until changed is notified, whichever is first; Time::max(): until it is notified.
  virtual void wait(std::unique_lock<std::mutex>& lock, std::condition_variable& changed, Time until) {
    if (until == Time::max()) {
      changed.wait(lock);
    } else {
      changed.wait_until(lock, until);
    }
  }
};

}  // namespace liveavatar
