// Any channel layout as mono or stereo: nothing is lost, nothing clips.
#pragma once

#include <vector>

#include "media/ffmpeg.h"

namespace liveavatar {

struct FreeLayout {
  AVChannelLayout layout{};
  FreeLayout() = default;
  FreeLayout(const FreeLayout&) = delete;
  FreeLayout& operator=(const FreeLayout&) = delete;
  ~FreeLayout() { av_channel_layout_uninit(&layout); }
};

// Front left and right unchanged, the centre at full level on both sides (it has the speech), back, side and top
// channels at -3 dB, low frequencies at -6 dB. An unnamed layout is the usual one for its number of channels; if there
// is none, the average. One channel of several: the average of left and right.
class Downmix {
 public:
  explicit Downmix(int channels) : channels_(channels) {}  // 1 or 2
  static constexpr float kLoudest = 100;                   // full scale is 1; larger samples are invalid
  // Appends the frame's samples, interleaved; those beyond kLoudest become that, NaN and infinity 0.
  void append(const AVFrame& frame, std::vector<float>& out);
  float loudest() const { return loudest_; }  // of the samples so far; infinity: one was NaN

 private:
  void set_layout(const AVChannelLayout& layout);
  float limited(float peak);

  int channels_;
  FreeLayout from_;
  std::vector<float> weights_;  // [channels_, channels of from_]
  bool sums_ = false;           // several channels are added
  float gain_ = 1, loudest_ = 0;
};

}  // namespace liveavatar
