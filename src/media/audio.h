// Voices in: decode with FFmpeg, mix down, resample with libsoxr.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

struct Audio {
  int sample_rate_hz = 0;
  int channels = 0;
  std::vector<float> samples;  // interleaved [frames, channels], -1..1
  int64_t frames() const { return channels ? static_cast<int64_t>(samples.size()) / channels : 0; }
  double seconds() const { return sample_rate_hz ? static_cast<double>(frames()) / sample_rate_hz : 0; }
};

// Whole file at its own rate and channels. Errors: missing, empty, corrupt, no audio stream, no samples; NaN samples become 0.
Expected<Audio> read_audio(const std::string& path);
// Channels averaged, then resampled (soxr high quality) to rate_hz; ceil(frames * rate / own rate) samples.
Expected<std::vector<float>> to_mono(const Audio& audio, int rate_hz);

}  // namespace liveavatar
