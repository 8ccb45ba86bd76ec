#include "serve/rtc/gst/gst_peer.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "serve/rtc/gst/microphone.h"

namespace liveavatar::rtc {

// What GStreamer's callbacks share with the peer; it may outlive it by one of them.
struct PeerEvents {
  explicit PeerEvents(PeerCalls all) : calls(std::move(all)) {}

  void end(const std::string& why) {
    {
      std::lock_guard lock(mutex);
      if (ended) return;
      ended = true;
      failure = why;
      changed.notify_all();
    }
    if (calls.on_end) calls.on_end(why);
  }
  template <typename Condition>
  bool wait_for(std::chrono::seconds patience, Condition condition) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, patience, [&] { return ended || condition(); });
    return !ended && condition();
  }
  void set(bool PeerEvents::*flag) {
    std::lock_guard lock(mutex);
    this->*flag = true;
    changed.notify_all();
  }

  const PeerCalls calls;
  std::mutex mutex;
  std::condition_variable changed;
  unsigned tracks_with_caps = 0;  // a bit each
  bool gathered = false, ended = false;
  std::string failure;
  // Of what comes from the network, for is_silent().
  std::atomic<gint64> heard_us = 0;  // 0: nothing yet
  std::atomic<bool> said_goodbye = false;
};

namespace {

using Events = std::shared_ptr<PeerEvents>;
struct Opening {  // of the gate when the peer is connected
  Events events;
  std::shared_ptr<MediaIn> media;
};
struct Track {
  Events events;
  int number = 0;
};

void caps_changed(GstPad* pad, GParamSpec*, gpointer data) {
  const auto& track = *static_cast<Track*>(data);
  const bool has_caps = gst_pad_has_current_caps(pad) != FALSE;
  std::lock_guard lock(track.events->mutex);
  if (has_caps) track.events->tracks_with_caps |= 1U << track.number;
  track.events->changed.notify_all();
}

void gathering_changed(GObject* peer, GParamSpec*, gpointer data) {
  int state = 0;
  g_object_get(peer, "ice-gathering-state", &state, nullptr);
  if (state == kGatheringComplete) (*static_cast<Events*>(data))->set(&PeerEvents::gathered);
}

void connection_changed(GObject* peer, GParamSpec*, gpointer data) {
  auto& opening = *static_cast<Opening*>(data);
  int state = 0;
  g_object_get(peer, "connection-state", &state, nullptr);
  switch (static_cast<ConnectionState>(state)) {
    case ConnectionState::kConnected:
      opening.media->open();
      if (opening.events->calls.on_connected) opening.events->calls.on_connected();
      return;
    case ConnectionState::kFailed:
      return opening.events->end("the connection failed");
    case ConnectionState::kClosed:
      return opening.events->end("the peer closed the connection");
    default:
      return;
  }
}

void pad_added(GstElement* peer, GstPad* pad, gpointer data) {
  const Events& events = *static_cast<Events*>(data);
  take_pad(peer, pad, [events](std::span<const int16_t> samples) {
    if (events->calls.on_microphone) events->calls.on_microphone(samples);
  });
}

// webrtcbin does not notice DTLS' goodbye, and a peer that vanished only after most of a minute.
GstPadProbeReturn packet_came(GstPad*, GstPadProbeInfo* info, gpointer data) {
  constexpr guint8 kDtlsAlert = 21;  // the first byte of a packet
  auto& events = **static_cast<Events*>(data);
  guint8 kind = 0;
  if (gst_buffer_extract(gst_pad_probe_info_get_buffer(info), 0, &kind, 1) == 1)
    events.said_goodbye = kind == kDtlsAlert;
  events.heard_us = g_get_monotonic_time();
  return GST_PAD_PROBE_OK;
}

void element_added(GstBin*, GstBin*, GstElement* element, gpointer data) {
  const GstElementFactory* factory = gst_element_get_factory(element);
  if (factory == nullptr || g_strcmp0(GST_OBJECT_NAME(factory), "nicesrc") != 0) return;
  const Owned<GstPad> pad(gst_element_get_static_pad(element, "src"));
  if (!pad) return;
  gst_pad_add_probe(pad.get(), GST_PAD_PROBE_TYPE_BUFFER, packet_came, new Events(*static_cast<Events*>(data)),
                    [](gpointer events) { delete static_cast<Events*>(events); });
}

// Nobody reads the bus, so that no message may stay on it.
GstBusSyncReply message_came(GstBus*, GstMessage* message, gpointer data) {
  if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
    GError* error = nullptr;
    gst_message_parse_error(message, &error, nullptr);
    const Owned<GError> owner(error);
    (*static_cast<Events*>(data))->end(std::string("GStreamer: ") + error->message);
  }
  gst_message_unref(message);
  return GST_BUS_DROP;
}

// What webrtcbin answers with, which gst_promise_wait() would wait for without an end.
class Promise {
 public:
  Promise()
      : promise_(gst_promise_new_with_change_func(changed, new std::shared_ptr<Change>(change_), [](gpointer data) {
          delete static_cast<std::shared_ptr<Change>*>(data);
        })) {}
  GstPromise* get() const { return promise_.get(); }
  const GstStructure* reply() const { return gst_promise_get_reply(promise_.get()); }
  // false: it came to nothing, or not in time; webrtcbin may still answer then, and has its own hold of the promise.
  bool wait() const {
    constexpr std::chrono::seconds kPatience(10);
    std::unique_lock lock(change_->mutex);
    if (!change_->changed.wait_for(lock, kPatience, [&] { return change_->came; })) return false;
    return gst_promise_wait(promise_.get()) == GST_PROMISE_RESULT_REPLIED;
  }

 private:
  struct Change {
    std::mutex mutex;
    std::condition_variable changed;
    bool came = false;
  };
  static void changed(GstPromise*, gpointer data) {
    const std::shared_ptr<Change> change = *static_cast<std::shared_ptr<Change>*>(data);
    std::lock_guard lock(change->mutex);
    change->came = true;
    change->changed.notify_all();
  }
  const std::shared_ptr<Change> change_ = std::make_shared<Change>();
  const Owned<GstPromise> promise_;
};

Status wait_for(const Promise& promise, const char* what) {
  if (!promise.wait()) return cancelled(std::string(what) + ": GStreamer gave no answer to it");
  const GstStructure* reply = promise.reply();
  if (reply == nullptr || gst_structure_has_field(reply, "error") == FALSE) return {};
  GError* error = nullptr;
  gst_structure_get(reply, "error", G_TYPE_ERROR, &error, nullptr);
  const Owned<GError> owner(error);
  return invalid_argument(std::string(what) + ": " + (error != nullptr ? error->message : "it was refused"));
}

std::string gst_address(const std::string& server) {
  std::string address = server;
  return address.insert(address.find(':') + 1, "//");
}

}  // namespace

GstPeer::GstPeer(Owned<GstElement> pipeline, const Codecs& codecs, const Call& media, PeerCalls calls)
    : pipeline_(std::move(pipeline)),
      peer_(gst_bin_get_by_name(GST_BIN(pipeline_.get()), kPeerElement)),
      events_(std::make_shared<PeerEvents>(std::move(calls))),
      media_(std::make_shared<MediaIn>(pipeline_.get(), media, codecs.audio >= 0)),
      codecs_(codecs),
      tracks_(codecs.audio >= 0 ? 2 : 1) {}

GstPeer::~GstPeer() { close(); }

Expected<std::unique_ptr<GstPeer>> GstPeer::make(const Codecs& codecs, const Call& media, const PeerSettings& settings,
                                                 const Encoders& encoders, PeerCalls calls) {
  const std::string text = pipeline_text(codecs, encoders, media.width * media.height);
  GError* error = nullptr;
  Owned<GstElement> pipeline(gst_parse_launch_full(text.c_str(), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &error));
  const Owned<GError> why(error);
  if (!pipeline) return unsupported(std::string("GStreamer: ") + (why ? why->message : "no pipeline"));
  std::unique_ptr<GstPeer> peer(new GstPeer(std::move(pipeline), codecs, media, std::move(calls)));
  peer->set_addresses(settings);
  peer->set_retransmission();
  peer->listen();
  return peer;
}

Expected<std::unique_ptr<Peer>> GstPeer::open(const Offer& offer, const PeerSettings& settings,
                                              const Encoders& encoders, PeerCalls calls) {
  LA_ASSIGN_OR_RETURN(ParsedOffer parsed, parse_offer(offer.sdp, !encoders.h264.empty(), encoders.vp8));
  const Call media{.width = offer.width, .height = offer.height};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<GstPeer> peer, make(parsed.codecs, media, settings, encoders, std::move(calls)));
  LA_RETURN_IF_ERROR(peer->play());
  LA_RETURN_IF_ERROR(peer->take_offer(std::move(parsed.message)));
  return std::unique_ptr<Peer>(std::move(peer));
}

Expected<std::unique_ptr<Peer>> GstPeer::call(const Call& call, const PeerSettings& settings, const Encoders& encoders,
                                              PeerCalls calls) {
  constexpr int kVideo = 96, kAudio = 111;
  const bool h264 = !call.vp8 && !encoders.h264.empty();
  if (!h264 && !encoders.vp8) return unsupported("GStreamer has no encoder for VP8 here");
  const Codecs codecs{.h264 = h264, .video = kVideo, .audio = kAudio};
  LA_ASSIGN_OR_RETURN(std::unique_ptr<GstPeer> peer, make(codecs, call, settings, encoders, std::move(calls)));
  peer->send_only();
  LA_RETURN_IF_ERROR(peer->play());
  LA_RETURN_IF_ERROR(peer->describe("create-offer", "offer"));
  return std::unique_ptr<Peer>(std::move(peer));
}

void GstPeer::set_addresses(const PeerSettings& settings) {
  for (const std::string& server : settings.ice_servers) {
    if (server.starts_with("stun:")) {
      g_object_set(peer_.get(), "stun-server", gst_address(server).c_str(), nullptr);
    } else {
      gboolean added = FALSE;
      g_signal_emit_by_name(peer_.get(), "add-turn-server", gst_address(server).c_str(), &added);
    }
  }
  GObject *ice = nullptr, *agent = nullptr;
  g_object_get(peer_.get(), "ice-agent", &ice, nullptr);
  const Owned<GObject> ice_owner(ice);
  if (ice == nullptr) return;
  g_object_get(ice, "agent", &agent, nullptr);
  const Owned<GObject> agent_owner(agent);
  // Without UPnP, whose search holds up the answer. A peer that vanishes is noticed by checks that it must answer.
  if (agent != nullptr) g_object_set(agent, "upnp", FALSE, "ice-tcp", FALSE, "keepalive-conncheck", TRUE, nullptr);
  if (settings.address.empty()) return;
  gboolean added = FALSE;
  g_signal_emit_by_name(ice, "add-local-ip-address", settings.address.c_str(), &added);
}

// Of pictures, on request. It must be set before the offer is, or the answer has none. The video's pad is the first.
void GstPeer::set_retransmission() {
  GObject* transceiver = nullptr;
  g_signal_emit_by_name(peer_.get(), "get-transceiver", 0, &transceiver);
  const Owned<GObject> owner(transceiver);
  if (transceiver != nullptr) g_object_set(transceiver, "do-nack", TRUE, nullptr);
}

void GstPeer::send_only() {
  constexpr int kSendOnly = 2;  // of GstWebRTCRTPTransceiverDirection
  for (int track = 0; track < tracks_; ++track) {
    GObject* transceiver = nullptr;
    g_signal_emit_by_name(peer_.get(), "get-transceiver", track, &transceiver);
    const Owned<GObject> owner(transceiver);
    if (transceiver != nullptr) g_object_set(transceiver, "direction", kSendOnly, nullptr);
  }
}

void GstPeer::listen() {
  for (int track = 0; track < tracks_; ++track) {
    GstPad* pad = gst_element_get_static_pad(peer_.get(), ("sink_" + std::to_string(track)).c_str());
    const Owned<GstPad> owner(pad);
    // After the pad took them, which a probe would not know.
    if (pad != nullptr) connect(pad, "notify::caps", caps_changed, Track{events_, track});
  }
  connect(peer_.get(), "pad-added", pad_added, events_);
  connect(peer_.get(), "deep-element-added", element_added, events_);
  connect(peer_.get(), "notify::ice-gathering-state", gathering_changed, events_);
  connect(peer_.get(), "notify::connection-state", connection_changed, Opening{events_, media_});
  const Owned<GstBus> bus(gst_element_get_bus(pipeline_.get()));
  gst_bus_set_sync_handler(bus.get(), message_came, new Events(events_),
                           [](gpointer data) { delete static_cast<Events*>(data); });
}

// Until all tracks have caps: an answer before that names no source ("ssrc-group:FID 0"), and browsers then decode the
// pictures and show none.
Status GstPeer::play() {
  constexpr std::chrono::seconds kPatience(20);
  const unsigned all = (1U << tracks_) - 1;
  gst_element_set_state(pipeline_.get(), GST_STATE_PLAYING);
  media_->prime();
  const bool begun = events_->wait_for(kPatience, [&] { return events_->tracks_with_caps == all; });
  if (begun) return {};
  std::lock_guard lock(events_->mutex);
  return io_error(events_->ended ? events_->failure : "GStreamer: an encoder gave nothing in 20 s");
}

Status GstPeer::set_remote(GstWebRTCSDPType type, Owned<GstSDPMessage> description, const char* what) {
  const Owned<GstWebRTCSessionDescription> remote(gst_webrtc_session_description_new(type, description.release()));
  const Promise taken;
  g_signal_emit_by_name(peer_.get(), "set-remote-description", remote.get(), taken.get());
  return wait_for(taken, what);
}

Status GstPeer::take_offer(Owned<GstSDPMessage> offer) {
  LA_RETURN_IF_ERROR(set_remote(GST_WEBRTC_SDP_TYPE_OFFER, std::move(offer), "the offer"));
  return describe("create-answer", "answer");
}

Status GstPeer::take_answer(const std::string& sdp) {
  LA_ASSIGN_OR_RETURN(Owned<GstSDPMessage> answer, parse_answer(sdp, codecs_));
  return set_remote(GST_WEBRTC_SDP_TYPE_ANSWER, std::move(answer), "its answer");
}

// kind: "offer" or "answer", the field of what the signal gives.
Status GstPeer::describe(const char* signal, const char* kind) {
  const std::string what = std::string("the ") + kind;
  const Promise made;
  g_signal_emit_by_name(peer_.get(), signal, nullptr, made.get());
  LA_RETURN_IF_ERROR(wait_for(made, what.c_str()));
  GstWebRTCSessionDescription* description = nullptr;
  const GstStructure* reply = made.reply();
  if (reply != nullptr)
    gst_structure_get(reply, kind, gst_webrtc_session_description_get_type(), &description, nullptr);
  const Owned<GstWebRTCSessionDescription> local(description);
  if (!local) return invalid_argument(what + " cannot be made");
  if (local->type == GST_WEBRTC_SDP_TYPE_OFFER) complete_offer(local->sdp, codecs_);
  const Promise set;
  g_signal_emit_by_name(peer_.get(), "set-local-description", local.get(), set.get());
  LA_RETURN_IF_ERROR(wait_for(set, what.c_str()));
  // An ICE server that is silent does not hold up those that are not.
  constexpr std::chrono::seconds kGathering(3);
  events_->wait_for(kGathering, [&] { return events_->gathered; });
  return read_description();
}

Status GstPeer::read_description() {
  GstWebRTCSessionDescription* local = nullptr;
  g_object_get(peer_.get(), "local-description", &local, nullptr);
  const Owned<GstWebRTCSessionDescription> owner(local);
  if (!owner) return invalid_argument("the offer cannot be answered");
  description_ = text_of(gst_sdp_message_as_text(local->sdp));
  if (description_.find("ssrc-group:FID 0 ") != std::string::npos)
    return io_error("GStreamer does not name the source of the video; try again");
  if (description_.find("a=candidate:") == std::string::npos)
    return io_error("there is no address for WebRTC; start the server with `webrtc_address`");
  return {};
}

bool GstPeer::is_silent() const {
  constexpr gint64 kPatience_us = 20'000'000, kAfterGoodbye_us = 2'000'000;
  const gint64 heard = events_->heard_us;
  const gint64 patience = events_->said_goodbye ? kAfterGoodbye_us : kPatience_us;
  return heard > 0 && g_get_monotonic_time() - heard > patience;
}

void GstPeer::close() {
  // Joins the threads; what is sent meanwhile is dropped.
  gst_element_set_state(pipeline_.get(), GST_STATE_NULL);
}

}  // namespace liveavatar::rtc
