// A WAV stream as it arrives, and the head of one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// PCM of 16 bit, or float; one or two channels, which are mixed. A length that a live stream cannot know (0 or
// 0xFFFFFFFF) is "to its end". One thread at a time.
class WavReader {
 public:
  // s16 mono that is complete by now; valid until the next call. kCorrupt: no WAV, or one of another kind.
  Expected<std::span<const int16_t>> push(std::string_view bytes);
  int rate_hz() const { return rate_hz_; }  // 0: not known yet

 private:
  Status read_head();
  Status read_format(std::string_view chunk);
  void convert(std::string_view data);

  std::string head_;     // until the data begin
  std::string partial_;  // of a frame
  bool in_data_ = false;
  uint64_t left_ = 0;  // of the data
  int rate_hz_ = 0, channels_ = 0, sample_bytes_ = 0;
  std::vector<int16_t> samples_;
};

// s16 mono. samples: none: a stream, whose length is not known. More than a WAV's 4 GiB are told as a stream.
std::string wav_head(int rate_hz, std::optional<uint64_t> samples);

}  // namespace liveavatar
