// Audio input: decoded with FFmpeg as it is read, mixed down, resampled with libsoxr. No file is ever in memory as a
// whole.
#pragma once

#include <memory>
#include <string>

#include "core/mono_source.h"
#include "core/status.h"

namespace liveavatar {

// Interleaved samples of an audio file, front to back, at one rate; mono or stereo, other layouts are mixed down
// (media/downmix.h). A file that changes its format is converted to its first format. One thread at a time.
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

// Any audio FFmpeg reads, of a file that is opened for this call only. Errors in one line: missing, empty, not audio,
// no samples in it. Audio ends at a damaged tail.
Expected<std::unique_ptr<AudioStream>> open_audio(const std::string& path);

// AudioFile::mono() and seconds() of a file that is opened for this call only (media/audio_file.h).
Expected<std::unique_ptr<MonoSource>> open_mono(const std::string& path, int rate_hz);
Expected<double> audio_seconds(const std::string& path);

}  // namespace liveavatar
