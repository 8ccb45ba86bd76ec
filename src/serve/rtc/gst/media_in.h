// The way of a session's frames and sound into the pipeline.
#pragma once

#include <deque>
#include <mutex>

#include "liveavatar/live.h"
#include "serve/rtc/gst/handles.h"
#include "serve/rtc/media_clock.h"
#include "serve/rtc/peer.h"

namespace liveavatar::rtc {

// Any thread.
class MediaIn {
 public:
  // pipeline: of pipeline_text(). A session without sound has audio false.
  MediaIn(GstElement* pipeline, const Call& media, bool audio);

  // A black frame and silence at time 0, so that encoders and payloaders say what they will send.
  void prime();
  // Until open() they are held back, those whose time is over dropped: the network takes none before.
  void write(const LiveChunk& chunk);
  // The peer is connected: from here on frames go out, a keyframe first.
  void open();

 private:
  struct Held {
    GstElement* to;
    Owned<GstBuffer> buffer;
  };
  // With mutex_.
  void give(GstElement* to, const void* bytes, size_t count, GstClockTime time, GstClockTime duration);
  void drop_past(GstClockTime now);
  GstClockTime now() const;

  const int64_t width_, height_;
  const int64_t piece_samples_;  // a packet of Opus, or two where the rate has no whole number for one
  const GstClockTime piece_ns_;
  // Of the pipeline, which itself is not held: its signals hold this object.
  const Owned<GstElement> video_, audio_, encoder_;
  std::mutex mutex_;
  std::deque<Held> held_;
  MediaClock clock_;
  bool open_ = false;
};

}  // namespace liveavatar::rtc
