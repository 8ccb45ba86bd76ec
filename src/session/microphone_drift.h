// How far a microphone's clock has run away from the engine's, and where a pause is in which to make up for it.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace liveavatar {

// Of one speech, block after block. A lead is how many samples more than wanted wait when a block begins; negative:
// fewer. Packets come irregularly, so that only what stands for four seconds counts.
class MicrophoneDrift {
 public:
  // frame: samples of 20 ms. look_ahead: samples that a shortage may take.
  MicrophoneDrift(int64_t frame, int64_t look_ahead) : frame_(frame), look_ahead_(look_ahead) {}

  void add(int64_t lead);
  // Another speech, or a gap.
  void restart() { count_ = 0; }
  // Samples to leave out (more than 0) or to add (less).
  int64_t correction() const;
  // Whether a frame is a pause: quieter than -52 dB, or than 3 % of the loudest that was heard in some seconds. Every
  // frame, in order.
  bool is_pause(double mean_square);

 private:
  int64_t frame_, look_ahead_;
  std::array<int64_t, 8> leads_{};  // of the last blocks
  int64_t count_ = 0;
  double loudest_ = 0;  // mean square
};

}  // namespace liveavatar
