// Pictures, and a sound track's packets, on their way to a packet sink.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "media/encode.h"
#include "media/packet_sink.h"
#include "media/rgb_to_yuv.h"
#include "media/video_writer.h"

namespace liveavatar {

// One thread at a time.
class PacketSource {
 public:
  explicit PacketSource(std::unique_ptr<PacketSink> sink) : sink_(std::move(sink)) {}

  // Before all else. sound: its encoder, which outlives the source; null: there is none.
  Status begin(const VideoWriterOptions& picture, const AVCodecContext* sound);
  const AVCodecContext& encoder() const { return *encoder_; }  // of the picture
  PacketSink& sink() { return *sink_; }

  // rgb [height, width, 3]. time: in frames.
  Status write_picture(const uint8_t* rgb, int64_t time, bool is_key);
  Status finish_picture() { return encode(nullptr); }
  // Takes the sound's packets.
  PacketTaker sound_taker();

 private:
  Status encode(const AVFrame* frame);

  Owned<AVCodecContext> encoder_;
  Owned<AVPacket> packet_;
  std::unique_ptr<PacketSink> sink_;  // before the encoder, which it looks at
  std::optional<RgbToYuv> converter_;
};

}  // namespace liveavatar
