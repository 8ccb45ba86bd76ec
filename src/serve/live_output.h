// What a live session's frames and sound are on the wire.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/status.h"
#include "liveavatar/live.h"
#include "serve/live_events.h"

namespace liveavatar::serve {

// One thread at a time.
class LiveOutput {
 public:
  using Sink = std::function<void(std::string bytes)>;  // a message
  virtual ~LiveOutput() = default;
  // The MIME type, for Media Source Extensions; empty: raw.
  virtual std::string mime() const = 0;
  virtual Status write(const LiveChunk& chunk) = 0;
};

// For a session whose chunks are like this one.
Expected<std::unique_ptr<LiveOutput>> open_live_output(LiveFormat format, const LiveChunk& like, LiveOutput::Sink sink);

// The head of a raw message, little endian, before rgb [frames, height, width, 3] and s16 samples (docs/serve.md).
constexpr size_t kRawHeadBytes = 40;
std::string raw_head(const LiveChunk& chunk);

}  // namespace liveavatar::serve
