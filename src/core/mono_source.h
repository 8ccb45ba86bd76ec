// A voice to pull samples from.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace liveavatar {

constexpr int kModelRateHz = 16000;  // what the audio encoder hears

// Mono samples in -1..1, front to back, with a way back to the start. One thread at a time.
class MonoSource {
 public:
  virtual ~MonoSource() = default;
  // Up to `count` samples; 0 means the end.
  virtual Expected<int64_t> read(float* samples, int64_t count) = 0;
  virtual Status rewind() = 0;
};

}  // namespace liveavatar
