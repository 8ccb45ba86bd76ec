// A stream of audio samples.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

constexpr int kModelRateHz = 16000;  // input rate of the audio encoder

// Mono samples in -1..1, in order, with rewind. One thread at a time.
class MonoSource {
 public:
  virtual ~MonoSource() = default;
  // Reads up to `count` samples. 0: the end.
  virtual Expected<int64_t> read(float* samples, int64_t count) = 0;
  virtual Status rewind() = 0;
  // The file, for messages. Empty: none.
  virtual std::string where() const { return {}; }
  // A note for the user about how the audio was made. Empty: none.
  virtual std::string note() const { return {}; }
};

// Samples in memory.
class SampleSource : public MonoSource {
 public:
  explicit SampleSource(std::vector<float> samples) : samples_(std::move(samples)) {}
  Expected<int64_t> read(float* samples, int64_t count) override {
    count = std::min(count, static_cast<int64_t>(samples_.size()) - at_);
    std::copy_n(samples_.begin() + at_, count, samples);
    at_ += count;
    return count;
  }
  Status rewind() override {
    at_ = 0;
    return {};
  }

 private:
  std::vector<float> samples_;
  int64_t at_ = 0;
};

}  // namespace liveavatar
