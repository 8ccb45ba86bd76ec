// The JSON events of a live socket (docs/serve.md, docs/asyncapi.yaml).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/status.h"
#include "liveavatar/live.h"

namespace liveavatar::serve {

enum class LiveFormat { kRaw, kMp4 };

// What a client says.
struct LiveEvent {
  enum class Type { kStart, kEndSpeech, kInterrupt, kSetPrompt, kSetPortrait, kStop, kPing, kSay, kAsk };
  Type type = Type::kPing;
  nlohmann::json body;
};
Expected<LiveEvent> parse_live_event(std::string_view text);

// The numbers and texts of `start`; the portrait is for the caller.
struct LiveStart {
  LiveRequest request;   // without its image
  std::string portrait;  // a name, or an image in base64
  LiveFormat format = LiveFormat::kMp4;
  std::string container;  // of the client's sound: "webm" or "ogg" with Opus; empty: s16 samples
  std::string push;       // the name of a target; empty: none
  bool converse = false;  // the sound is a visitor's, whom the portrait answers
};
Expected<LiveStart> parse_live_start(const nlohmann::json& body);

// {"type":"error","code":...,"message":...,"status":...}: what HTTP would have said.
std::string error_event(int status, const std::string& code, const std::string& message);
// {"type":"push_error",...}: the session goes on without its target.
std::string push_error_event(const std::string& name, const std::string& code, const std::string& message);

// From the positions in chunks, what plays: an event when a speech begins to play and one when it has ended, for each
// speech that was pushed, whatever happens to it. One thread at a time.
class PlaybackEvents {
 public:
  explicit PlaybackEvents(int sample_rate) : sample_rate_(sample_rate) {}

  static constexpr size_t kMostSpeeches = 256;  // that have not finished; a flood of tiny ones fits in little sound

  double seconds(int64_t samples) const;
  // Whether there is a speech that has not finished, and the number of the last one; -1: there was none.
  bool is_playing() const { return !speeches_.empty(); }
  int64_t last_speech() const { return next_ - 1; }
  // Whether sound would begin one speech too many.
  bool is_full() const;
  // As the calls of LiveSession.
  void pushed(int64_t samples);
  void end_speech();
  // Returns the events of speeches that are dropped before any of them plays.
  std::vector<std::string> interrupted(const LivePosition& stops_at);

  // Before and behind the chunk.
  std::vector<std::string> begins(const LiveChunk& chunk);
  std::vector<std::string> ends(const LiveChunk& chunk);

 private:
  struct Speech {
    int64_t number = 0, samples = 0;
    bool ended = false, begun = false, interrupted = false;
  };
  bool begins_speech() const;
  std::string dropped(const Speech& speech) const;
  std::string finished(const Speech& speech, const LiveChunk& chunk) const;

  const int sample_rate_;
  std::deque<Speech> speeches_;  // that have not finished
  int64_t next_ = 0;
};

// The target got `sent_frames` of the session.
struct PushStats {
  bool connected = false;
  int64_t sent_frames = 0, dropped_frames = 0, connections = 0;
};

// "stats", once a block.
struct BlockStats {
  int64_t block = 0;
  double decode_seconds = 0, encode_seconds = 0, send_seconds = 0;  // of its chunks
  std::optional<PushStats> push;                                    // where there is a target
};
std::string stats_event(const LiveChunk& last, const BlockStats& stats);

}  // namespace liveavatar::serve
