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

// Front left and right as they are, the centre whole on both sides (speech is there, and is to stay as loud), what is
// behind, beside or above at -3 dB, low frequencies at -6 dB. A layout that is not named is the usual one for its
// number of channels; where there is none, the average. One channel of several: the average of left and right.
class Downmix {
 public:
  explicit Downmix(int channels) : channels_(channels) {}  // 1 or 2
  static constexpr float kLoudest = 100;                   // full scale is 1; beyond this it is no audio
  // Appends the frame's samples, interleaved; those beyond kLoudest become that, NaN and infinity 0.
  void append(const AVFrame& frame, std::vector<float>& out);
  float loudest() const { return loudest_; }  // of the samples so far; infinity: one was no number

 private:
  void set_layout(const AVChannelLayout& layout);
  float limited(float peak);

  int channels_;
  FreeLayout from_;
  std::vector<float> weights_;  // [channels_, channels of from_]
  bool sums_ = false;           // more than one channel goes into one
  float gain_ = 1, loudest_ = 0;
};

}  // namespace liveavatar
