#include "serve/rtc/gst/pipeline_text.h"

#include <algorithm>
#include <set>

#include "serve/rtc/peer.h"

namespace liveavatar::rtc {
namespace {

bool is_installed(const char* element) {
  const Owned<GstElement> factory(GST_ELEMENT_CAST(gst_element_factory_find(element)));
  return factory != nullptr;
}

struct Need {
  const char *element, *package;
};
constexpr Need kNeeds[] = {
    {"webrtcbin", "gstreamer1.0-plugins-bad"},     {"dtlsdec", "gstreamer1.0-plugins-bad"},
    {"srtpdec", "gstreamer1.0-plugins-bad"},       {"nicesrc", "gstreamer1.0-nice"},
    {"rtpbin", "gstreamer1.0-plugins-good"},       {"rtph264pay", "gstreamer1.0-plugins-good"},
    {"rtpopuspay", "gstreamer1.0-plugins-good"},   {"opusenc", "gstreamer1.0-plugins-base"},
    {"opusdec", "gstreamer1.0-plugins-base"},      {"appsrc", "gstreamer1.0-plugins-base"},
    {"videoconvert", "gstreamer1.0-plugins-base"}, {"audioresample", "gstreamer1.0-plugins-base"},
};

// Frames wait here for their time. What waits too long is dropped rather than shown late: three seconds.
std::string source_text(const char* name, int most) {
  return std::string("appsrc name=") + name +
         " is-live=true format=time leaky-type=downstream max-bytes=0 max-buffers=" + std::to_string(most) +
         " ! clocksync ! ";
}

std::string h264_text(const std::string& encoder, int kbit_per_s) {
  const std::string name = std::string(" name=") + kVideoEncoder;
  std::string text = encoder + name;
  if (encoder == "x264enc") {
    text += " tune=zerolatency speed-preset=superfast threads=1 key-int-max=250 vbv-buf-capacity=300 bitrate=" +
            std::to_string(kbit_per_s);
  } else {
    text += " usage-type=camera complexity=low rate-control=bitrate gop-size=250 multi-thread=1 bitrate=" +
            std::to_string(kbit_per_s * 1000);
  }
  return text +
         " ! video/x-h264,profile=constrained-baseline,stream-format=byte-stream ! "
         "rtph264pay config-interval=-1 aggregate-mode=zero-latency";
}

std::string vp8_text(int kbit_per_s) {
  return std::string("vp8enc name=") + kVideoEncoder +
         " deadline=1 cpu-used=8 threads=1 lag-in-frames=0 keyframe-max-dist=250 end-usage=cbr buffer-initial-size=100"
         " buffer-optimal-size=200 buffer-size=400 target-bitrate=" +
         std::to_string(kbit_per_s * 1000) + " ! rtpvp8pay picture-id-mode=15-bit";
}

std::string packets_text(const char* media, const char* codec, int type) {
  const std::string number = std::to_string(type);
  return " pt=" + number + " ! application/x-rtp,media=" + media + ",encoding-name=" + codec + ",payload=" + number +
         " ! " + kPeerElement + ". ";
}

}  // namespace

Expected<Encoders> find_elements() {
  std::set<std::string> packages;
  for (const Need& need : kNeeds)
    if (!is_installed(need.element)) packages.insert(need.package);
  Encoders encoders;
  for (const char* element : {"openh264enc", "x264enc"})
    if (is_installed(element)) encoders.h264 = element;
  encoders.vp8 = is_installed("vp8enc") && is_installed("rtpvp8pay");
  if (encoders.h264.empty() && !encoders.vp8) packages.insert("gstreamer1.0-plugins-ugly");
  if (packages.empty()) return encoders;
  std::string all;
  for (const std::string& package : packages) all += " " + package;
  return unsupported("WebRTC needs more of GStreamer here: apt install" + all);
}

std::string pipeline_text(const Codecs& codecs, const Encoders& encoders, int64_t pixels) {
  constexpr int64_t kPixelsPerKbit = 330;  // 704x384: 820 kbit/s
  const int kbit_per_s = static_cast<int>(std::clamp<int64_t>(pixels / kPixelsPerKbit, 300, 4000));
  // max-bundle: one port for all. latency: of the microphone's jitter buffer, ms.
  std::string text = std::string("webrtcbin name=") + kPeerElement + " bundle-policy=max-bundle latency=40 ";
  text += source_text(kVideoSource, 75) + "videoconvert ! video/x-raw,format=I420 ! ";
  text += codecs.h264 ? h264_text(encoders.h264, kbit_per_s) : vp8_text(kbit_per_s);
  text += packets_text("video", codecs.h264 ? "H264" : "VP8", codecs.video);
  if (codecs.audio < 0) return text;
  text += source_text(kAudioSource, 150);
  text += "audioresample ! opusenc bitrate=64000 frame-size=20 audio-type=voice inband-fec=true ! rtpopuspay";
  return text + packets_text("audio", "OPUS", codecs.audio);
}

std::string microphone_text() {
  return "rtpopusdepay ! opusdec use-inband-fec=true plc=true ! audioconvert ! audioresample ! "
         "audio/x-raw,format=S16LE,layout=interleaved,channels=1,rate=" +
         std::to_string(kSampleRate) + " ! appsink name=samples sync=false max-buffers=50 drop=true";
}

}  // namespace liveavatar::rtc
