#include "serve/rtc/gst/media_in.h"

#include <gst/app/gstappsrc.h>

#include <utility>
#include <vector>

#include "serve/rtc/gst/pipeline_text.h"
#include "serve/rtc/peer.h"

namespace liveavatar::rtc {
namespace {

int64_t pieces_per_second(int sample_rate) { return sample_rate % 50 == 0 ? 50 : 25; }

void set_caps(GstElement* source, const std::string& text) {
  const Owned<GstCaps> caps(gst_caps_from_string(text.c_str()));
  gst_app_src_set_caps(GST_APP_SRC(source), caps.get());
}

}  // namespace

MediaIn::MediaIn(GstElement* pipeline, const Call& media, bool audio)
    : width_(media.width),
      height_(media.height),
      piece_samples_(media.sample_rate / pieces_per_second(media.sample_rate)),
      piece_ns_(GST_SECOND / static_cast<GstClockTime>(pieces_per_second(media.sample_rate))),
      video_(gst_bin_get_by_name(GST_BIN(pipeline), kVideoSource)),
      audio_(audio ? gst_bin_get_by_name(GST_BIN(pipeline), kAudioSource) : nullptr),
      encoder_(gst_bin_get_by_name(GST_BIN(pipeline), kVideoEncoder)) {
  set_caps(video_.get(), "video/x-raw,format=RGB,framerate=25/1,width=" + std::to_string(width_) +
                             ",height=" + std::to_string(height_));
  if (audio_)
    set_caps(audio_.get(),
             "audio/x-raw,format=S16LE,layout=interleaved,channels=1,rate=" + std::to_string(media.sample_rate));
}

GstClockTime MediaIn::now() const {
  const GstClockTime time = gst_element_get_current_running_time(video_.get());
  return GST_CLOCK_TIME_IS_VALID(time) ? time : 0;
}

void MediaIn::prime() {
  const std::vector<uint8_t> black(static_cast<size_t>(width_ * height_ * 3));
  const std::vector<int16_t> silence(static_cast<size_t>(piece_samples_));
  std::lock_guard lock(mutex_);
  open_ = true;
  give(video_.get(), black.data(), black.size(), 0, kFrameNs);
  if (audio_) give(audio_.get(), silence.data(), silence.size() * sizeof(int16_t), 0, piece_ns_);
  open_ = false;
}

void MediaIn::write(const LiveChunk& chunk) {
  std::lock_guard lock(mutex_);
  const GstClockTime here = now();
  const auto begin =
      static_cast<GstClockTime>(clock_.time_of(chunk.first_frame, chunk.paused_seconds, static_cast<int64_t>(here)));
  const auto frame_bytes = static_cast<size_t>(width_ * height_ * 3);
  for (int64_t i = 0; i < chunk.frames; ++i)
    give(video_.get(), chunk.rgb + static_cast<size_t>(i) * frame_bytes, frame_bytes,
         begin + static_cast<GstClockTime>(i * kFrameNs), kFrameNs);
  for (int64_t at = 0; audio_ && at + piece_samples_ <= chunk.samples; at += piece_samples_)
    give(audio_.get(), chunk.audio + at, static_cast<size_t>(piece_samples_) * sizeof(int16_t),
         begin + static_cast<GstClockTime>(at / piece_samples_) * piece_ns_, piece_ns_);
  if (!open_) drop_past(here);
}

void MediaIn::give(GstElement* to, const void* bytes, size_t count, GstClockTime time, GstClockTime duration) {
  Owned<GstBuffer> buffer(gst_buffer_new_memdup(bytes, count));
  GST_BUFFER_PTS(buffer.get()) = time;
  GST_BUFFER_DURATION(buffer.get()) = duration;
  if (!open_) {
    held_.push_back({to, std::move(buffer)});
    return;
  }
  gst_app_src_push_buffer(GST_APP_SRC(to), buffer.release());  // takes it, and never waits: its queue is leaky
}

void MediaIn::drop_past(GstClockTime now) {
  std::erase_if(held_, [now](const Held& held) {
    return GST_BUFFER_PTS(held.buffer.get()) + GST_BUFFER_DURATION(held.buffer.get()) < now;
  });
}

void MediaIn::open() {
  GstStructure* wish = gst_structure_new("GstForceKeyUnit", "all-headers", G_TYPE_BOOLEAN, TRUE, nullptr);
  const Owned<GstPad> source(gst_element_get_static_pad(encoder_.get(), "src"));
  gst_pad_send_event(source.get(), gst_event_new_custom(GST_EVENT_CUSTOM_UPSTREAM, wish));
  std::lock_guard lock(mutex_);
  if (open_) return;
  open_ = true;
  clock_.settle();
  drop_past(now());
  for (Held& held : std::exchange(held_, {})) gst_app_src_push_buffer(GST_APP_SRC(held.to), held.buffer.release());
}

}  // namespace liveavatar::rtc
