// When each frame of a session is sent.
#pragma once

#include <algorithm>
#include <cstdint>

namespace liveavatar::rtc {

constexpr int64_t kFrameNs = 40'000'000;

// A block's chunks come together, 0.48 s of them: sent at their own times the receiver need not buffer them. A frame's
// time is a fixed step behind the one before it, and behind what the session stood still. Nanoseconds of a clock that
// runs from 0.
class MediaClock {
 public:
  // The time of `frame`, the first of a chunk that is here at `now`. Until settle(), a chunk that is late moves all
  // later times, so that they hold for the slowest block; afterwards the receiver's buffer evens that out.
  int64_t time_of(int64_t frame, double paused_seconds, int64_t now) {
    const int64_t line = frame * kFrameNs + static_cast<int64_t>(paused_seconds * 1e9);
    const int64_t wanted = now + kSlackNs - line;
    if (!begun_ || (!settled_ && wanted > base_)) base_ = wanted;
    begun_ = true;
    return std::max<int64_t>(base_ + line, 0);
  }
  void settle() { settled_ = true; }

 private:
  static constexpr int64_t kSlackNs = 20'000'000;  // for what varies from block to block
  int64_t base_ = 0;
  bool begun_ = false, settled_ = false;
};

}  // namespace liveavatar::rtc
