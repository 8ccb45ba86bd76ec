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

// What webrtcbin leaves out of its offers and servers want: the profile of H.264, and a port at the sound, which some
// take for refused without one.
void complete_offer(GstSDPMessage* offer, const Codecs& codecs);

// An answer to an offer of these codecs. kUnsupported: it takes no such video. kInvalidArgument: it is no answer.
Expected<Owned<GstSDPMessage>> parse_answer(const std::string& sdp, const Codecs& offered);

// kInvalidArgument: this is no offer, or asks for nothing that we have. can_h264: an encoder is installed.
Expected<ParsedOffer> parse_offer(const std::string& sdp, bool can_h264, bool can_vp8);

}  // namespace liveavatar::rtc
