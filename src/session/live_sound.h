// The sound of a live session: what was pushed, on a time line that never stops (docs/live.md). Where nothing was
// pushed it has silence.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <vector>

#include "core/status.h"
#include "session/job_shape.h"
#include "session/microphone_drift.h"
#include "session/sinc_resampler.h"

namespace liveavatar {

// Samples of one of the 25 frames a second: every rate that is allowed is a multiple of 25.
constexpr int64_t frame_samples(int rate_hz) { return rate_hz / kFps; }
constexpr int64_t block_samples(int rate_hz) { return kBlockFrames * frame_samples(rate_hz); }
Status check_live_rate(int rate_hz);

// How far a moment of the video has come in what was pushed. A speech is what is pushed until it is ended or
// interrupted.
struct SpeechPosition {
  int64_t speech = -1;   // its number, from 0; -1: none yet
  int64_t samples = 0;   // of it, up to that moment
  bool complete = true;  // no more of it follows
};

// push(), end_speech(), interrupt() and queued_samples(): any thread. The others: the thread that makes the blocks. The
// constructor allocates all memory, but a few bytes for each speech that waits.
class LiveSound {
 public:
  explicit LiveSound(const LiveShape& shape);
  static size_t bytes(const LiveShape& shape);

  // All or nothing. kOutOfMemory: the queue has no room for so much.
  Status push(std::span<const int16_t> samples);
  void end_speech();
  // Drops what no block has taken, but for some of what was looked ahead to, which fades out. Returns where the blocks
  // that have begun will stop.
  SpeechPosition interrupt();
  int64_t queued_samples() const;

  // Decides what block `block` has, and what is known behind it. Blocks in order.
  void place(int64_t block);
  // Of the block that was placed last.
  std::span<const int16_t> samples() const;      // block_samples()
  SpeechPosition position(int64_t frame) const;  // at the end of its frame 0..11
  bool voiced() const { return voiced_; }        // whether some of its samples were pushed
  // Times that a speech ran out of samples before it was ended.
  int64_t gaps() const { return gaps_; }
  // Samples [first, first + out.size()) of the time line at 16 kHz, -1..1; from one block before the last one on.
  void resample(int64_t first, std::span<float> out) const;

 private:
  // Pushed samples from `pushed` on that are on the time line from `first` on.
  struct Run {
    int64_t first = 0, count = 0, pushed = 0;
  };
  // Pushed samples [begin, end); end -1: it goes on.
  struct Speech {
    int64_t number = 0, begin = 0, end = -1;
  };
  void shift();
  void fill(int64_t end, int64_t known);
  void take(int64_t count);
  void take_from_microphone(int64_t known);
  bool is_pause(int64_t count);
  void add_silence(int64_t until);
  void drop_after(int64_t time);
  int64_t pushed_until(int64_t time) const;
  SpeechPosition position_of(int64_t pushed) const;
  int64_t block_end() const { return block_first_ + block_samples(rate_hz_); }

  const int rate_hz_;
  const int64_t look_ahead_;  // samples
  const SincResampler resampler_;
  mutable std::mutex mutex_;
  std::vector<int16_t> queue_;      // a ring
  int64_t pushed_ = 0, taken_ = 0;  // samples so far, dropped ones too; the ring has those between
  int64_t next_speech_ = 0;
  std::deque<Speech> speeches_;          // from that of the last block on
  std::deque<Run> runs_;                 // from the last block's on
  std::vector<int16_t> line_;            // the time line from line_first_ on
  int64_t line_first_ = 0, filled_ = 0;  // what is decided ends at filled_
  int64_t block_first_ = 0;              // of the block that was placed last
  int64_t gaps_ = 0;
  int64_t fading_ = 0;     // samples behind the last block that fade out
  MicrophoneDrift drift_;  // of a microphone
  bool microphone_ = false;
  bool placed_ = false, speaking_ = false, voiced_ = false;
};

}  // namespace liveavatar
