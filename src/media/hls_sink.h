// HLS: a playlist that grows, and beside it a segment of MPEG-TS for every 4 seconds.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/output_files.h"
#include "core/pending_file.h"
#include "media/packet_sink.h"

namespace liveavatar {

// Segments are NAME-00000.ts, ... of NAME.m3u8; the playlist's lines escape what a URL must. A segment has its name
// when it is whole, and is in the playlist then. The playlist ends with the video.
class HlsSink final : public PacketSink {
 public:
  explicit HlsSink(OutputClaim& claim) : claim_(claim) {}  // of the playlist; outlives the sink
  explicit HlsSink(OutputClaim&& claim) : own_claim_(std::move(claim)), claim_(own_claim_) {}
  Status begin(const StreamEncoders& encoders) override;
  Status write(AVPacket& packet, int stream) override;
  Status flush() override { return {}; }
  Status finish() override;

  // Whether the file has the name of a segment of the playlist.
  static bool is_segment(const std::string& file, const std::string& playlist);

 private:
  static int write_bytes(void* self, uint8_t* bytes, int count);
  Status begin_segment();
  Status end_segment(double time_s);
  std::string segment_name(int number) const;
  Status check_segments() const;
  Status failed(int code) const;

  OutputClaim own_claim_;
  OutputClaim& claim_;
  std::optional<PendingFile> segment_;
  OwnedIo io_;
  PacketMuxer muxer_;  // before `io_`, which it writes through
  StreamEncoders encoders_;
  std::string playlist_;
  int segments_ = 0;                // that are whole
  double begin_s_ = 0, end_s_ = 0;  // of the segment, in the video
};

}  // namespace liveavatar
