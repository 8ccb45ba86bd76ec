// Where a stream's packets go.
#pragma once

#include "core/status.h"
#include "media/ffmpeg.h"

namespace liveavatar {

constexpr int kPictureStream = 0, kSoundStream = 1;

// What the packets come from; both outlive the sink. sound: null where there is none.
struct StreamEncoders {
  const AVCodecContext* picture = nullptr;
  const AVCodecContext* sound = nullptr;
};

// One thread at a time.
class PacketSink {
 public:
  virtual ~PacketSink() = default;
  // Before all else.
  virtual Status begin(const StreamEncoders& encoders) = 0;
  // A packet of one of them in the encoder's time base; it is moved from.
  virtual Status write(AVPacket& packet, int stream) = 0;
  // About twice a second: what was written goes out.
  virtual Status flush() = 0;
  virtual Status finish() = 0;
  // True once after a break: the next frame should be a keyframe, and time was lost.
  virtual bool was_broken() { return false; }
};

// FFmpeg's muxer over an AVIOContext that outlives it. Results are FFmpeg's codes, errors of the AVIOContext too.
class PacketMuxer {
 public:
  // settings: consumed.
  int open(const char* format, AVIOContext* io, const StreamEncoders& encoders, AVDictionary* settings = nullptr);
  int write(AVPacket& packet, int stream);  // in the order of time, whatever order they come in
  int flush();
  int finish();
  AVFormatContext* format() { return format_.get(); }

 private:
  bool add_stream(const AVCodecContext& encoder);  // false: no memory
  void rescale(AVPacket& packet, int stream);
  int result(int code) const;
  OwnedOutput format_;
  AVRational time_bases_[2] = {};  // of the encoders
};

}  // namespace liveavatar
