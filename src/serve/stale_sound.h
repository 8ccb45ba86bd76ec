// A microphone's sound that came late, all at once.
#pragma once

#include <algorithm>

namespace liveavatar::serve {

// While the server stands still (Ctrl-Z, a machine that sleeps) a microphone's sound waits on its way. Played behind
// that, it would be late for the rest of the session, so it is to be dropped. Of one session, block after block.
class StaleSound {
 public:
  // paused_s: for how long the time line stood still so far; queued_s: sound that waits. Whether that is of the past.
  bool is_stale(double paused_s, double queued_s) {
    const double stood_still_s = paused_s - paused_s_;
    paused_s_ = paused_s;
    if (stood_still_s >= kStandStill_s) {
      missed_s_ += stood_still_s;
      blocks_ = kBlocks;
    }
    blocks_ = std::max(0, blocks_ - 1);
    if (blocks_ == 0) missed_s_ = 0;
    if (missed_s_ <= 0 || queued_s < kUsual_s) return false;
    missed_s_ -= queued_s;
    return true;
  }

 private:
  // A device that is too slow loses a block at a time: that is no standstill.
  static constexpr double kStandStill_s = 2, kUsual_s = 0.75;
  static constexpr int kBlocks = 20;  // in which what waited arrives: 10 s

  double paused_s_ = 0, missed_s_ = 0;
  int blocks_ = 0;
};

}  // namespace liveavatar::serve
