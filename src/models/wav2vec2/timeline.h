// The original's conversion between samples, 50 Hz hidden states, 30 Hz interpolation, 25 fps columns and clips.
#pragma once

#include <cmath>
#include <cstdint>

namespace liveavatar {

constexpr int64_t kHopSamples = 320,
                  kReachSamples = 400;  // one hidden state every 20 ms, with a receptive field of 25 ms

// Hidden states of `samples` samples at 16 kHz through strides 5,2,2,2,2,2,2 and kernels 10,3,3,3,3,2,2.
inline int64_t frame_count(int64_t samples) {
  return samples < kReachSamples ? 0 : (samples - kReachSamples) / kHopSamples + 1;
}

inline int64_t interpolated_length(int64_t frames_50hz) {
  return static_cast<int64_t>(double(frames_50hz) / 50.0 * 30.0);
}

// One clip more than necessary if the audio fills clips exactly: the rule of the original.
inline int64_t clip_count(int64_t frames_30hz, int64_t infer_frames, int64_t fps) {
  return static_cast<int64_t>(double(frames_30hz) / (double(infer_frames) * 30.0 / double(fps))) + 1;
}

// The 30 Hz frame of video column i, or -1 for a column of zeros after the end. Rounds half to even, as Python does.
inline int64_t column_source(int64_t column, int64_t frames_30hz, int64_t fps) {
  int64_t source = std::llrint(double(column) / double(fps) * 30.0);
  return source < frames_30hz ? source : -1;
}

// The position of a 30 Hz frame between hidden states: state `low`, and the weight of the next one.
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
