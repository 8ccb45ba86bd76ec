// What an offer lets us send.
#pragma once

#include <string>

#include "core/status.h"
#include "serve/rtc/gst/handles.h"

namespace liveavatar::rtc {

struct Codecs {
  bool h264 = true;  // else VP8
  int video = -1;    // RTP payload types; -1: none
  int audio = -1;    // Opus
};

struct ParsedOffer {
  Owned<GstSDPMessage> message;
  Codecs codecs;
};

// kInvalidArgument: this is no offer, or asks for nothing that we have. can_h264: an encoder is installed.
Expected<ParsedOffer> parse_offer(const std::string& sdp, bool can_h264, bool can_vp8);

}  // namespace liveavatar::rtc
