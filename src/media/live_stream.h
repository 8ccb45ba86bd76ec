// A live session's frames and sound to a server on the network: H.264 and AAC.
#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "core/status.h"
#include "media/stream_output.h"

namespace liveavatar {

class Connector;

struct LiveStreamOptions {
  int64_t width = 0, height = 0;  // of the frames; even
  int fps = 25;
  int64_t sample_rate = 24000;  // of the sound that is written
  int crf = 23;                 // quality of the picture; lower is better
  std::string preset = "veryfast";
  int threads = 1;  // of the picture's encoder
  int64_t sound_bits_per_second = 96000;
};

// Frames, and the sound of just these.
struct LiveFrames {
  int64_t first_frame = 0, frames = 0;
  const uint8_t* rgb = nullptr;    // [frames, height, width, 3]
  const int16_t* audio = nullptr;  // mono
  int64_t samples = 0;             // sample_rate / fps a frame
};

// One thread at a time.
class LiveStream {
 public:
  virtual ~LiveStream() = default;
  // Connects. Nothing is opened again when it is lost.
  static Expected<std::unique_ptr<LiveStream>> open(const std::shared_ptr<Connector>& connector,
                                                    const LiveStreamOptions& options, const StreamWaits& waits,
                                                    const std::stop_token& stop);
  // Frames come in order. For those that are left out the picture stands still, and there is silence.
  virtual Status write(const LiveFrames& frames) = 0;
  virtual Status finish() = 0;
};

}  // namespace liveavatar
