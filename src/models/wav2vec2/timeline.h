// The original's arithmetic between samples, 50 Hz hidden states, 30 Hz interpolation, 25 fps columns and clips.
#pragma once

#include <cmath>
#include <cstdint>

namespace liveavatar {

constexpr int64_t kHopSamples = 320, kReachSamples = 400;  // one hidden state every 20 ms, looking at 25 ms

// Hidden states of `samples` samples at 16 kHz through strides 5,2,2,2,2,2,2 and kernels 10,3,3,3,3,2,2.
inline int64_t frame_count(int64_t samples) {
  return samples < kReachSamples ? 0 : (samples - kReachSamples) / kHopSamples + 1;
}

inline int64_t interpolated_length(int64_t frames_50hz) {
  return static_cast<int64_t>(double(frames_50hz) / 50.0 * 30.0);
}

// One clip more than needed where the sound fills clips exactly: the original's rule.
inline int64_t clip_count(int64_t frames_30hz, int64_t infer_frames, int64_t fps) {
  return static_cast<int64_t>(double(frames_30hz) / (double(infer_frames) * 30.0 / double(fps))) + 1;
}

// The 30 Hz frame behind video column i, or -1: past the end, a column of zeros. Halves go to even, as Python's round.
inline int64_t column_source(int64_t column, int64_t frames_30hz, int64_t fps) {
  int64_t source = std::llrint(double(column) / double(fps) * 30.0);
  return source < frames_30hz ? source : -1;
}

// Where a 30 Hz frame lies between hidden states: frame `low` and the share of the one behind it.
struct Between {
  int64_t low = 0;
  float share = 0;
};
inline Between between(int64_t frame_30hz, int64_t frames_30hz, int64_t frames_50hz) {
  if (frames_30hz < 2) return {};
  double position = double(frame_30hz) * double(frames_50hz - 1) / double(frames_30hz - 1);
  int64_t low = static_cast<int64_t>(position);
  if (low >= frames_50hz - 1) return {frames_50hz - 1, 0};
  return {low, static_cast<float>(position - double(low))};
}

}  // namespace liveavatar
