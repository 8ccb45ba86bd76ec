// A peer on GStreamer's webrtcbin, which answers or calls.
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
  static Expected<std::unique_ptr<Peer>> call(const Call& call, const PeerSettings& settings, const Encoders& encoders,
                                              PeerCalls calls);
  ~GstPeer() override;

  const std::string& description() const override { return description_; }
  Status take_answer(const std::string& sdp) override;
  void write(const LiveChunk& chunk) override { media_->write(chunk); }
  bool is_silent() const override;
  void close() override;

 private:
  static Expected<std::unique_ptr<GstPeer>> make(const Codecs& codecs, const Call& media, const PeerSettings& settings,
                                                 const Encoders& encoders, PeerCalls calls);
  GstPeer(Owned<GstElement> pipeline, const Codecs& codecs, const Call& media, PeerCalls calls);
  void set_addresses(const PeerSettings& settings);
  void set_retransmission();
  void send_only();
  void listen();
  Status play();
  Status take_offer(Owned<GstSDPMessage> offer);
  Status set_remote(GstWebRTCSDPType type, Owned<GstSDPMessage> description, const char* what);
  Status describe(const char* signal, const char* kind);
  Status read_description();

  const Owned<GstElement> pipeline_, peer_;
  const std::shared_ptr<PeerEvents> events_;
  const std::shared_ptr<MediaIn> media_;
  const Codecs codecs_;
  const int tracks_;
  std::string description_;
};

}  // namespace liveavatar::rtc
