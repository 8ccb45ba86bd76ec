// A voice to pull samples from.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

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
  // The file, for messages; empty: none.
  virtual std::string where() const { return {}; }
  // What a user should know about how it was made; empty: nothing.
  virtual std::string note() const { return {}; }
};

// Samples that are already in memory.
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
