// The pipeline of a peer, and what must be installed for it.
#pragma once

#include <string>

#include "core/status.h"
#include "serve/rtc/gst/offer.h"

namespace liveavatar::rtc {

// Names of elements in it.
constexpr const char *kPeerElement = "peer", *kVideoSource = "video", *kAudioSource = "audio",
                     *kVideoEncoder = "video_encoder";

struct Encoders {
  std::string h264;  // the element that is installed; empty: none
  bool vp8 = false;
};
// kUnsupported: a line that names the Debian packages which are missing.
Expected<Encoders> find_elements();

std::string pipeline_text(const Codecs& codecs, const Encoders& encoders, int64_t pixels);

// From a pad of webrtcbin to an appsink "samples": decodes the peer's Opus to kSampleRate, mono.
std::string microphone_text();

}  // namespace liveavatar::rtc
