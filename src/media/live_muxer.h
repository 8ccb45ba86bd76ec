// A live session as a stream for Media Source Extensions: fragmented MP4 in memory, H.264 and Opus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/status.h"

namespace liveavatar {

struct LiveMuxerOptions {
  int64_t width = 0, height = 0;  // of the frames; even
  int fps = 25;
  int64_t sample_rate = 24000;  // of the sound that is written; a multiple of fps from 8000 to 48000
  int crf = 23;                 // quality of the picture; lower is better
  std::string preset = "veryfast";
  int threads = 1;  // of the picture's encoder
  int64_t sound_bits_per_second = 64000;
};

// A piece of the stream, complete: what one SourceBuffer.appendBuffer() takes.
struct LiveSegment {
  enum class Kind {
    kInit,      // once, before all others. A client that joins later gets it first
    kKey,       // a fragment whose first frame is a keyframe: where a client can join
    kFragment,  // any other
  };
  Kind kind = Kind::kFragment;
  std::span<const std::byte> bytes;  // valid during the call only
};
// On the thread that writes, before write() or finish() returns. Must not throw, nor call the muxer.
using LiveSegmentSink = std::function<void(const LiveSegment&)>;

// One thread at a time, save request_keyframe(). Nothing grows with the stream.
class LiveMuxer {
 public:
  virtual ~LiveMuxer() = default;  // without finish(): what the encoders hold (some 20 ms of sound) is lost
  // Errors: odd sides, a rate that has no whole number of samples a frame, no libx264 or libopus in FFmpeg here.
  static Expected<std::unique_ptr<LiveMuxer>> open(const LiveMuxerOptions& options, LiveSegmentSink sink);

  // RFC 6381, for MediaSource.isTypeSupported('video/mp4; codecs="..."'): "avc1.42c01f,opus".
  virtual std::string codecs() const = 0;
  // rgb [frames, height, width, 3] and the sound of just these frames, s16 mono [samples]; both are copied. One
  // fragment, with the init segment before the first.
  virtual Status write(const uint8_t* rgb, int64_t frames, const int16_t* audio, int64_t samples) = 0;
  // The next write() begins with a keyframe, as one does at least once a second. Any thread.
  virtual void request_keyframe() = 0;
  // The rest of the sound, in a last fragment. A second call does nothing.
  virtual Status finish() = 0;
};

}  // namespace liveavatar
