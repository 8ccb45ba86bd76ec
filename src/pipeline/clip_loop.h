// The way of a job: conditioning, then block after block is sampled, decoded, delivered and forgotten.
#pragma once

#include <memory>

#include "media/audio.h"
#include "models/wav2vec2/audio_features.h"
#include "pipeline/job.h"
#include "pipeline/models.h"

namespace liveavatar {

// A voice file and its features; the features read from the file as they are asked for.
class Voice {
 public:
  static Expected<std::unique_ptr<Voice>> open(Models& models, const Job& job);
  AudioFeatures& features() { return *features_; }
  std::string note() const { return mono_->note(); }  // for the user; empty: nothing

 private:
  std::unique_ptr<MonoSource> mono_;
  std::unique_ptr<AudioFeatures> features_;
};

// Runs a whole job. on_block may say stop: kCancelled. An error after some blocks leaves those with the caller.
Status run_job(Models& models, const Job& job, const BlockCallback& on_block, const RunHooks& hooks);

}  // namespace liveavatar
