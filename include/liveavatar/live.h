// Live sessions: sound is pushed as it is made, and a talking video without an end comes out, frames and sound in step.
//
//   auto session = engine->open_live({.image = "me.png", .prompt = "a woman talks"}, {.on_chunk = show});
//   (*session)->push(samples);
//
// docs/live.md says when what is pushed is seen. Errors are as in liveavatar.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "liveavatar/liveavatar.h"

namespace liveavatar {

struct LiveRequest {
  // As in GenerateRequest.
  std::string image, prompt, size;
  Fit fit = Fit::kCover;
  int64_t infer_frames = 48;
  int sample_steps = 4;
  double sample_shift = 3.0;
  uint64_t seed = 420;
  int sample_rate = 24000;           // of the sound, in Hz: a multiple of 25 from 8000 to 48000; mono
  double context_seconds = 2;        // that the model hears before a block; 0.5 to 10
  double look_ahead_seconds = 0.08;  // and behind it, by which a microphone's sound is late; 0 to 0.4
  double queue_seconds = 30;         // of sound that waits for its block; 1 to 600
  // The sound comes at real time, from a microphone, whose clock is never quite the engine's: what has come to wait
  // longer, or to be short, is made up for in pauses. Else every sample that is pushed is heard.
  bool microphone = false;
  // set_prompt() and set_portrait() may be called: the session has the memory for it (docs/live.md says how much).
  bool allow_changes = false;
};

// How far a moment of the video has come in what was pushed. A speech is what is pushed until end_speech() or
// interrupt().
struct LivePosition {
  int64_t speech = -1;   // its number, from 0; -1: none yet
  int64_t samples = 0;   // of it, up to that moment
  bool complete = true;  // no more of it follows
};

// How long a chunk's block took. Sessions that are sampled together have the time of all.
struct LiveTimes {
  double hear_seconds = 0;    // the audio encoder, of this session
  double sample_seconds = 0;  // hearing and sampling
  double decode_seconds = 0;  // of this chunk alone
};

// Four frames and their sound. The memory is the session's, valid during the callback only.
struct LiveChunk {
  int64_t first_frame = 0, frames = 0;  // in order without gaps, 25 a second; time 0 is frame 0
  int64_t width = 0, height = 0;        // pixels
  const uint8_t* rgb = nullptr;         // [frames, height, width, 3]
  // Of these frames, sample_rate / 25 a frame: what was pushed, silence elsewhere.
  const int16_t* audio = nullptr;
  int64_t samples = 0;
  int sample_rate = 0;
  LivePosition position;       // at the end of the chunk
  int64_t queued_samples = 0;  // that wait for a later block
  int64_t gaps = 0;            // times so far that a speech ran dry before its end
  double late_seconds = 0;     // after it was due, its block began
  double paused_seconds = 0;   // so far: for which the time line stood still, since blocks were too late
  LiveTimes times;
};

struct LiveCallbacks {
  // false ends the session. One call at a time, on a thread of the session. Other sessions do not wait for it; this one
  // has a queue of two blocks and is late when that is full.
  std::function<bool(const LiveChunk&)> on_chunk;
  // Optional. Called once, after the last on_chunk, where the session ends other than by close(): why.
  std::function<void(const Status&)> on_end;
};

class LiveFeed;  // what is behind a LiveSession

// One live session. Every call may come from any thread, several at once, also from its callbacks. It may outlive its
// engine, which ends it, and waits for the callback that runs.
class LIVEAVATAR_EXPORT LiveSession final {
 public:
  explicit LiveSession(std::shared_ptr<LiveFeed> feed);
  LiveSession(const LiveSession&) = delete;
  LiveSession& operator=(const LiveSession&) = delete;
  ~LiveSession();  // close()

  int64_t width() const;  // pixels
  int64_t height() const;

  // Copies mono samples at sample_rate to the end of what is queued, all or none, and does not wait. -1..1 is full
  // scale of float samples, which are clipped; NaN is kInvalidArgument. kOutOfMemory: the queue has no room for so
  // much. After the session's end: kCancelled, or what ended it; so do the other calls.
  Status push(std::span<const int16_t> samples);
  Status push(std::span<const float> samples);
  // The speech ends with what was pushed. Without a speech it does nothing.
  Status end_speech();
  // Drops what no block has begun with, but for 5 ms that fade out. Returns where the video will stop to speak, within
  // a block of 0.48 s.
  Expected<LivePosition> interrupt();
  // Another prompt, UTF-8, or portrait, which is fitted to the video's size, from the block on that begins next when
  // the call returns: its first frame is the result. The caller waits while it is encoded, and so do all sessions, as
  // for an opening. With a portrait the picture is cut: the video begins anew with it, and the sound goes on. After an
  // error nothing has changed. kUnsupported without LiveRequest::allow_changes. Of several calls one is served at a
  // time.
  Expected<int64_t> set_prompt(const std::string& prompt);
  Expected<int64_t> set_portrait(const std::string& image);
  // No callback runs when it returns, and none will; from within a callback: none after that one. Its memory is free. A
  // second call does nothing.
  void close();

 private:
  std::shared_ptr<LiveFeed> feed_;
};

}  // namespace liveavatar
