// Sound that is pushed, encoded: mono, 48 kHz.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "media/encode.h"

namespace liveavatar {

enum class SoundCodec {
  kOpus,  // packets of 20 ms
  kAac,   // of 21.3 ms
};

// One thread at a time. Packets are in the encoder's time base and begin at minus its `initial_padding`, which players
// drop; the first sample that was written is at 0.
class SoundTrack {
 public:
  // rate_hz: of what is written. Errors: no encoder here, no memory.
  static Expected<std::unique_ptr<SoundTrack>> open(SoundCodec codec, int rate_hz, int64_t bits_per_second);
  const AVCodecContext& encoder() const { return *encoder_; }
  // Encodes the packets that are full; less than one and the resampler's delay (2 ms at most) wait.
  Status write(std::span<const int16_t> samples, const PacketTaker& take);
  // All that waits; nothing is written afterwards.
  Status finish(const PacketTaker& take);

 private:
  SoundTrack() = default;
  Status open_resampler(int rate_hz);
  Status convert(const int16_t* samples, int count);
  Status encode(int64_t samples, const PacketTaker& take);

  Owned<AVCodecContext> encoder_;
  Owned<SwrContext> resampler_;
  Owned<AVFrame> frame_;
  Owned<AVPacket> packet_;
  std::vector<float> waiting_;  // at 48 kHz
  int64_t encoded_ = 0;         // samples
};

}  // namespace liveavatar
