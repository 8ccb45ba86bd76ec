// A stream to a server: FLV over RTMP, MPEG-TS over SRT.
#pragma once

#include <memory>
#include <stop_token>
#include <utility>

#include "media/connection.h"
#include "media/packet_sink.h"
#include "media/stream_output.h"

namespace liveavatar {

// A connection that is lost is opened again, as StreamPatience says; what comes until the next keyframe is left out
// then. kIo: it stays lost; the message says how far the video came.
class NetworkSink final : public PacketSink {
 public:
  static Expected<std::unique_ptr<NetworkSink>> connect(std::shared_ptr<Connector> connector,
                                                        const StreamPatience& patience, const std::stop_token& stop);
  Status begin(const StreamEncoders& encoders) override;
  Status write(AVPacket& packet, int stream) override;
  Status flush() override { return {}; }  // every packet goes out at once
  Status finish() override;
  bool was_broken() override;

 private:
  NetworkSink(std::shared_ptr<Connector> connector, const StreamPatience& patience, std::stop_token stop)
      : connector_(std::move(connector)),
        address_(connector_->address()),
        patience_(patience),
        stop_(std::move(stop)) {}
  int begin_muxer();
  int or_late(int code);
  Status reopen(int code);
  Status lost(int code) const;

  const std::shared_ptr<Connector> connector_;
  const StreamAddress& address_;
  const StreamPatience patience_;
  const std::stop_token stop_;
  std::shared_ptr<Connection> connection_;
  PacketMuxer muxer_;  // before the connection, which it writes through
  StreamEncoders encoders_;
  Status status_;  // of the last write
  bool needs_key_ = false, broken_ = false;
  int reopened_ = 0;          // since it last lasted
  double written_s_ = 0;      // of the video
  double reopened_at_s_ = 0;  // of the video
};

}  // namespace liveavatar
