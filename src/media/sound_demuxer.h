// Sound that comes in pieces of a container, as a browser's MediaRecorder makes them: Opus in WebM or Ogg, decoded as
// it comes. Nobody waits: FFmpeg's demuxer, which does, has a thread of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/status.h"

namespace liveavatar {

// On the demuxer's thread. Must not throw, nor destroy the demuxer.
struct SoundCalls {
  std::function<void(std::span<const int16_t> samples)> on_samples;  // mono at the wanted rate
  std::function<void(const Status& why)> on_error;                   // once; nothing follows
};

class SoundDemuxer {
 public:
  static constexpr size_t kMostWaitingBytes = 1 << 20;
  virtual ~SoundDemuxer() = default;  // what was not decoded is dropped; no call runs afterwards
  // container: "webm" or "ogg". Errors: another container, FFmpeg here lacks it or Opus.
  static Expected<std::unique_ptr<SoundDemuxer>> open(const std::string& container, int sample_rate_hz,
                                                      SoundCalls calls);
  // Copies a piece that may be cut anywhere. kOutOfMemory: too much waits. Any thread.
  virtual Status push(std::string_view bytes) = 0;
  // `call` runs on the demuxer's thread, as SoundCalls do, when all that was pushed before is decoded. Any thread.
  virtual void then(std::function<void()> call) = 0;
};

}  // namespace liveavatar
