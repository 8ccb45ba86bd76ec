// The mini checkpoint and a small job for it.
#pragma once

#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar {

inline const std::string kSource = LA_SOURCE_DIR;

inline EngineOptions mini_options(int threads = 2) {
  EngineOptions o;
  o.checkpoint_dir = kSource + "/models/mini";
  o.threads = threads;
  return o;
}

// Clips of two blocks, 64x64.
inline GenerateRequest mini_job(int64_t clips = 1) {
  GenerateRequest job;
  job.image = kSource + "/assets/demo/portrait.png";
  job.audio = kSource + "/assets/demo/voice.wav";
  job.prompt = "a test";
  job.size = "64*64";
  job.num_clip = clips;
  job.infer_frames = 24;
  return job;
}

}  // namespace liveavatar
