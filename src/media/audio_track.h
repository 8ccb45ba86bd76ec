// The audio track of a video: read from its file as the video grows, converted for AAC, encoded in sync.
#pragma once

#include <memory>
#include <vector>

#include "media/audio.h"
#include "media/encode.h"

namespace liveavatar {

class AudioTrack {
 public:
  // audio's rate is kept where AAC knows it and it is 32 kHz or more; a lower one is doubled until it is.
  // global_header: the container wants the codec's header apart.
  static Expected<std::unique_ptr<AudioTrack>> open(std::unique_ptr<AudioStream> audio, bool global_header);
  AVCodecContext& encoder() { return *encoder_; }

  // Encodes up to `seconds` of audio in all; after the end of the voice, silence. Packets are in the encoder's time
  // base.
  Status advance(double seconds, const PacketTaker& take);
  // The rest of the requested audio and the encoder's own.
  Status finish(const PacketTaker& take);

 private:
  explicit AudioTrack(std::unique_ptr<AudioStream> audio) : audio_(std::move(audio)) {}
  Status pull(int64_t until);
  Status encode(int64_t samples, const PacketTaker& take);

  std::unique_ptr<AudioStream> audio_;
  Owned<AVCodecContext> encoder_;
  Owned<SwrContext> resampler_;
  Owned<AVFrame> frame_;
  Owned<AVPacket> packet_;
  std::vector<float> interleaved_;
  std::vector<std::vector<float>> waiting_;  // a channel each, converted, not yet encoded
  int64_t made_ = 0, encoded_ = 0;           // samples at the encoder's rate
  int64_t wanted_ = 0;                       // of the waiting ones, those before the last frame's end
  bool ended_ = false;
};

}  // namespace liveavatar
