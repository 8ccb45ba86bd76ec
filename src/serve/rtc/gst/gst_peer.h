// A peer on GStreamer's webrtcbin, which answers.
#pragma once

#include <memory>
#include <string>

#include "serve/rtc/gst/media_in.h"
#include "serve/rtc/gst/pipeline_text.h"
#include "serve/rtc/peer.h"

namespace liveavatar::rtc {

struct PeerEvents;

class GstPeer final : public Peer {
 public:
  static Expected<std::unique_ptr<Peer>> open(const Offer& offer, const PeerSettings& settings,
                                              const Encoders& encoders, PeerCalls calls);
  ~GstPeer() override;

  const std::string& answer() const override { return answer_; }
  void write(const LiveChunk& chunk) override { media_->write(chunk); }
  bool is_silent() const override;
  void close() override;

 private:
  GstPeer(Owned<GstElement> pipeline, const Offer& offer, bool audio, PeerCalls calls);
  void set_addresses(const PeerSettings& settings);
  void set_retransmission();
  void listen();
  Status play();
  Status negotiate(Owned<GstSDPMessage> offer);
  Status read_answer();

  const Owned<GstElement> pipeline_, peer_;
  const std::shared_ptr<PeerEvents> events_;
  const std::shared_ptr<MediaIn> media_;
  const int tracks_;
  std::string answer_;
};

}  // namespace liveavatar::rtc
