// Fragmented MP4 for a program that reads a pipe.
#pragma once

#include <memory>
#include <stop_token>
#include <utility>

#include "media/connection.h"
#include "media/packet_sink.h"

namespace liveavatar {

// Nothing is ever sought, whatever the descriptor is. A reader that pauses is waited for; a stop ends that in a second.
class PipeSink final : public PacketSink {
 public:
  // descriptor: closed at the end.
  static Expected<std::unique_ptr<PipeSink>> open(int descriptor, const std::stop_token& stop);
  ~PipeSink() override;
  Status begin(const StreamEncoders& encoders) override;
  Status write(AVPacket& packet, int stream) override;
  Status flush() override;
  Status finish() override;

 private:
  PipeSink(int descriptor, std::stop_token stop) : descriptor_(descriptor), stop_(stop), deadline_(std::move(stop)) {}
  static int write_bytes(void* self, uint8_t* bytes, int count);
  int write_some(const uint8_t* bytes, int count);
  Status failed(int code) const;

  const int descriptor_;
  const std::stop_token stop_;
  Deadline deadline_;
  OwnedIo io_;
  PacketMuxer muxer_;  // before `io_`, which it writes through
  StreamEncoders encoders_;
  double written_s_ = 0;  // of the video
};

}  // namespace liveavatar
