// Audio as the video model hears it: columns of hidden states, 25 a second.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "media/audio_file.h"
#include "models/wav2vec2/audio_features.h"

namespace liveavatar {

// Where a video's audio comes from: files, or what is being said at this moment. One thread at a time.
class AudioColumns {
 public:
  virtual ~AudioColumns() = default;
  // How many people speak.
  virtual int64_t count() const = 0;
  // Columns [first, first + count) of everyone -> out f32 [count(), layers, width, count], zeros behind the end. Asking
  // forwards is cheap. false: the audio ended before `first`; out is left as it was.
  virtual Expected<bool> columns(int64_t first, int64_t count, float* out) = 0;
};

// An audio file of a job. Until it is heard to its end, its length is what the file says.
struct Voice {
  std::string path;
  std::unique_ptr<AudioFile> file;
  std::unique_ptr<MonoSource> mono;  // at kModelRateHz, over `file`
  double claimed_seconds = 0;
  std::optional<Loudness> heard;

  static Expected<Voice> open(const std::string& path);
  // Reads it to its end, once. Error: too short to be heard; stopped.
  Status hear(const std::stop_token& stop = {});
  int64_t samples() const;  // at kModelRateHz
  // For the user, once it is heard: what was done to it, and where it holds less than its file says.
  std::vector<std::string> notes() const;
};

// Files of one job, one a speaker; heard. Voices, model and budget outlive it.
class FileColumns : public AudioColumns {
 public:
  static Expected<std::unique_ptr<FileColumns>> open(const Wav2Vec2& model, Budget& budget,
                                                     const std::vector<Voice>& voices,
                                                     const std::stop_token& stop = {});
  int64_t count() const override { return static_cast<int64_t>(features_.size()); }
  Expected<bool> columns(int64_t first, int64_t count, float* out) override;

 private:
  std::vector<std::unique_ptr<AudioFeatures>> features_;
};

}  // namespace liveavatar
