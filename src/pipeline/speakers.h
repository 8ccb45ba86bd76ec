// Several speakers: the files that a job names, and the voices as the models hear them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "liveavatar/liveavatar.h"
#include "media/audio.h"
#include "models/wav2vec2/audio_features.h"
#include "pipeline/job.h"

namespace liveavatar {

// "left.wav+right.wav" -> a path each. A '+' in a name stays where such a file exists, the longest name first.
std::vector<std::string> split_voices(const std::string& audio);

// Pictures of one speaker's mask, in order of time.
using MaskPictures = std::vector<std::string>;

// As many as voices, else an error that says what is missing. masks: one entry a speaker, a picture or a folder of
// PNGs; or one folder with subfolders 1, 2, ... (or with tracking_mask_results, which has them).
Expected<std::vector<MaskPictures>> find_masks(const std::vector<std::string>& masks, size_t voices);

// Those of a job; none for one voice, to which a mask is an error.
Expected<std::vector<MaskPictures>> job_masks(const Job& job);

// The voices of a job and their features, read from the files as they are asked for.
class Voices {
 public:
  static Expected<std::unique_ptr<Voices>> open(const Wav2Vec2& model, const Job& job);
  size_t count() const { return features_.size(); }
  const AudioFeatures& of(size_t speaker) const { return *features_[speaker]; }

  // Of the longest voice; of the shortest with Job::original_speakers.
  VoiceLength length() const {
    return {longest_or_shortest(&AudioFeatures::voice_frames), longest_or_shortest(&AudioFeatures::clips)};
  }

  // For the user: what was done to a sound so that it is heard.
  std::vector<std::string> notes() const;

  // Columns [first, first + count) of every voice -> out f32 [voices, layers, width, count]; zeros behind a voice's
  // end.
  Status columns(int64_t first, int64_t count, float* out);

 private:
  int64_t longest_or_shortest(int64_t (AudioFeatures::*measure)() const) const;

  bool shortest_ = false;
  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<MonoSource>> mono_;
  std::vector<std::unique_ptr<AudioFeatures>> features_;
};

}  // namespace liveavatar
