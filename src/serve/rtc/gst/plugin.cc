// What the program finds in this plugin.
#include <mutex>

#include "liveavatar/version.h"
#include "serve/rtc/gst/gst_peer.h"
#include "serve/rtc/gst/pipeline_text.h"
#include "serve/rtc/peer.h"

namespace liveavatar::rtc {
namespace {

class GstPeerMaker final : public PeerMaker {
 public:
  explicit GstPeerMaker(Encoders encoders) : encoders_(std::move(encoders)) {}
  Expected<std::unique_ptr<Peer>> open(const Offer& offer, const PeerSettings& settings, PeerCalls calls) override {
    return GstPeer::open(offer, settings, encoders_, std::move(calls));
  }
  Expected<std::unique_ptr<Peer>> call(const Call& call, const PeerSettings& settings, PeerCalls calls) override {
    return GstPeer::call(call, settings, encoders_, std::move(calls));
  }

 private:
  const Encoders encoders_;
};

// GLib would print warnings of libraries, which a client can cause.
GLogWriterOutput print_nothing(GLogLevelFlags, const GLogField*, gsize, gpointer) { return G_LOG_WRITER_HANDLED; }

Expected<std::unique_ptr<PeerMaker>> make() {
  static std::once_flag silent;
  std::call_once(silent, [] { g_log_set_writer_func(print_nothing, nullptr, nullptr); });
  GError* error = nullptr;
  if (gst_init_check(nullptr, nullptr, &error) == FALSE) {
    const Owned<GError> why(error);
    return unsupported(std::string("GStreamer does not start: ") + (why ? why->message : "no reason given"));
  }
  LA_ASSIGN_OR_RETURN(Encoders encoders, find_elements());
  return std::unique_ptr<PeerMaker>(std::make_unique<GstPeerMaker>(std::move(encoders)));
}

}  // namespace
}  // namespace liveavatar::rtc

extern "C" {
__attribute__((visibility("default"))) const char* liveavatar_webrtc_version = LIVEAVATAR_VERSION_STRING;

__attribute__((visibility("default"))) void liveavatar_open_webrtc(
    liveavatar::Expected<std::unique_ptr<liveavatar::rtc::PeerMaker>>* made) {
  *made = liveavatar::rtc::make();
}
}
