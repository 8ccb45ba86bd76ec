// Voices in: decoded with FFmpeg as they are read, mixed down, resampled with libsoxr. Nothing holds a whole file.
#pragma once

#include <memory>
#include <string>

#include "core/mono_source.h"
#include "core/status.h"

namespace liveavatar {

// Interleaved samples of a sound file, front to back, at one rate; mono or stereo, other layouts are mixed down
// (media/downmix.h). What changes inside the file is converted to what it begins with. One thread at a time.
class AudioStream {
 public:
  virtual ~AudioStream() = default;
  virtual int sample_rate_hz() const = 0;
  virtual int channels() const = 0;  // 1 or 2
  // Up to `frames` frames of channels() samples; full scale is -1..1. Returns frames read, 0 at the end. kCorrupt where
  // the file stores NaN, infinity or more than 100 times full scale.
  virtual Expected<int64_t> read(float* interleaved, int64_t frames) = 0;
  virtual Status rewind() = 0;
  virtual std::string where() const = 0;  // the file or files, for messages
};

// Any sound FFmpeg reads. Errors in one line: missing, empty, not a sound, no samples in it. A damaged tail ends the
// sound.
Expected<std::unique_ptr<AudioStream>> open_audio(const std::string& path);

// Channels averaged (where that cancels them, the louder one; note() says so), then resampled (soxr, high quality) to
// rate_hz: ceil(samples * rate_hz / own rate) samples.
Expected<std::unique_ptr<MonoSource>> open_mono(const std::string& path, int rate_hz);

// How long the sound is by its file's own word; a file that does not say is read to its end.
Expected<double> sound_seconds(const std::string& path);

}  // namespace liveavatar
