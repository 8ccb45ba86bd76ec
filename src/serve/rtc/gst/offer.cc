#include "serve/rtc/gst/offer.h"

#include <charconv>
#include <string_view>

namespace liveavatar::rtc {
namespace {

constexpr guint kMostMedia = 8;

// How well a payload type of the offer fits; 0: not at all.
int fitness(const GstStructure* format, std::string_view wanted) {
  auto text = [&](const char* field) {
    const char* value = gst_structure_get_string(format, field);
    return std::string_view(value != nullptr ? value : "");
  };
  if (text("encoding-name") != wanted) return 0;
  if (wanted != "H264") return 1;
  // Large frames need packets of several slices, and Baseline is what every receiver decodes.
  if (text("packetization-mode") != "1") return 0;
  const std::string_view profile = text("profile-level-id").substr(0, 4);
  if (profile == "42e0" || profile == "42E0") return 3;
  return profile.empty() || profile.starts_with("42") ? 2 : 0;
}

// The best payload type for that codec; -1: none.
int payload_type(const GstSDPMessage* offer, std::string_view media, std::string_view codec) {
  int best = -1, most = 0;
  for (guint m = 0; m < gst_sdp_message_medias_len(offer); ++m) {
    const GstSDPMedia* line = gst_sdp_message_get_media(offer, m);
    const char* kind = gst_sdp_media_get_media(line);
    if (kind == nullptr || media != kind) continue;
    for (guint i = 0; i < gst_sdp_media_formats_len(line); ++i) {
      const std::string_view text = gst_sdp_media_get_format(line, i);
      int type = -1;
      std::from_chars(text.data(), text.data() + text.size(), type);
      if (type < 0 || type > 127) continue;
      const Owned<GstCaps> caps(gst_sdp_media_get_caps_from_media(line, type));
      if (!caps || gst_caps_get_size(caps.get()) == 0) continue;
      const int fits = fitness(gst_caps_get_structure(caps.get(), 0), codec);
      if (fits > most) best = type;
      most = std::max(most, fits);
    }
  }
  return best;
}

bool is_refused(const GstSDPMedia* media) { return gst_sdp_media_get_port(media) == 0; }

bool has_format(const GstSDPMedia* media, int type) {
  const std::string wanted = std::to_string(type);
  for (guint i = 0; i < gst_sdp_media_formats_len(media); ++i)
    if (wanted == gst_sdp_media_get_format(media, i)) return true;
  return false;
}

// Without these webrtcbin has nothing to connect with, and some versions of it do not say so. An answer that takes one
// of two media need not have them for the other.
bool can_connect(const GstSDPMessage* offer, bool is_answer = false) {
  for (guint m = 0; m < gst_sdp_message_medias_len(offer); ++m) {
    const GstSDPMedia* line = gst_sdp_message_get_media(offer, m);
    if (is_answer && is_refused(line)) continue;
    for (const char* name : {"ice-ufrag", "ice-pwd", "fingerprint", "setup"})
      if (gst_sdp_media_get_attribute_val(line, name) == nullptr &&
          gst_sdp_message_get_attribute_val(offer, name) == nullptr)
        return false;
    if (gst_sdp_media_get_attribute_val(line, "mid") == nullptr) return false;
  }
  return true;
}

Owned<GstSDPMessage> parse(const std::string& sdp) {
  GstSDPMessage* parsed = nullptr;
  const GstSDPResult result = gst_sdp_message_new_from_text(sdp.c_str(), &parsed);
  Owned<GstSDPMessage> message(parsed);
  if (result != GST_SDP_OK || parsed == nullptr || gst_sdp_message_medias_len(parsed) == 0) message.reset();
  return message;
}

}  // namespace

Expected<ParsedOffer> parse_offer(const std::string& sdp, bool can_h264, bool can_vp8) {
  ParsedOffer offer{parse(sdp), {}};
  const GstSDPMessage* parsed = offer.message.get();
  if (parsed == nullptr)
    return invalid_argument("the body is no SDP offer; send what createOffer() gave, with its candidates");
  if (gst_sdp_message_medias_len(parsed) > kMostMedia)
    return invalid_argument("the offer has more than 8 media; offer one video and one sound");
  if (!can_connect(parsed))
    return invalid_argument("the offer has no ICE credentials, DTLS fingerprint, setup or mid; send one of WebRTC");
  Codecs& codecs = offer.codecs;
  if (can_h264) codecs.video = payload_type(parsed, "video", "H264");
  codecs.h264 = codecs.video >= 0;
  if (!codecs.h264 && can_vp8) codecs.video = payload_type(parsed, "video", "VP8");
  codecs.audio = payload_type(parsed, "audio", "OPUS");
  if (codecs.video < 0)
    return invalid_argument(std::string("the offer takes no video that this server has: ") +
                            (can_h264 ? "H.264 (Baseline, packetization-mode=1)" : "") +
                            (can_h264 && can_vp8 ? " or " : "") + (can_vp8 ? "VP8" : ""));
  return offer;
}

void complete_offer(GstSDPMessage* offer, const Codecs& codecs) {
  constexpr guint kAnyPort = 9;
  for (guint m = 0; m < gst_sdp_message_medias_len(offer); ++m) {
    auto* media = const_cast<GstSDPMedia*>(gst_sdp_message_get_media(offer, m));
    gst_sdp_media_set_port_info(media, kAnyPort, 1);
    for (guint i = gst_sdp_media_attributes_len(media); i-- > 0;)
      if (g_strcmp0(gst_sdp_media_get_attribute(media, i)->key, "bundle-only") == 0)
        gst_sdp_media_remove_attribute(media, i);
    const bool is_h264 = codecs.h264 && g_strcmp0(gst_sdp_media_get_media(media), "video") == 0;
    if (!is_h264) continue;
    const std::string format =
        std::to_string(codecs.video) + " level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    gst_sdp_media_add_attribute(media, "fmtp", format.c_str());
  }
}

Expected<Owned<GstSDPMessage>> parse_answer(const std::string& sdp, const Codecs& offered) {
  Owned<GstSDPMessage> answer = parse(sdp);
  const guint wanted = offered.audio >= 0 ? 2 : 1;
  if (!answer || gst_sdp_message_medias_len(answer.get()) != wanted)
    return invalid_argument("its answer is no SDP for a video and a sound");
  const GstSDPMedia* video = gst_sdp_message_get_media(answer.get(), 0);
  if (is_refused(video) || !has_format(video, offered.video))
    return unsupported(std::string("it takes no video in ") + (offered.h264 ? "H.264" : "VP8"));
  if (!can_connect(answer.get(), true))
    return invalid_argument("its answer has no ICE credentials, DTLS fingerprint, setup or mid");
  return answer;
}

}  // namespace liveavatar::rtc
