// What the video model hears of a live session: hidden states over a window that slides with the blocks.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "session/live_sound.h"
#include "session/voices.h"

namespace liveavatar {

// Mean and variance of what was said so far, where the original takes those of the whole utterance. Pauses do not
// count, so that they do not make what is behind them loud. In the first second of speech that of usual speech fades
// out.
class RunningLoudness {
 public:
  void add(std::span<const float> frame);  // 20 ms
  Loudness get() const;

 private:
  Loudness speech_;
  int64_t frames_ = 0;  // of speech
};

// Memory of a session's hearing, over a dry-run budget as well.
struct LiveMemory {
  AudioMemory window;
  Charge sound;  // LiveSound, and a second window: samples before and after they are normalised
  static AudioWindow window_of(const LiveShape& shape);
  static Expected<LiveMemory> allocate(const LiveShape& shape, const Wav2Vec2& model, Budget& budget);
};

// Of a session, chunks of frames and sound that wait for the caller.
struct LiveChunkMemory {
  OwnedTensor rgb;  // [chunks, 4, H, W, 3] u8, of the host
  Buffer audio;     // [chunks, 4 * frame_samples()] 16 bit
  static Expected<LiveChunkMemory> allocate(const JobShape& shape, Budget& budget);
};

// Columns of one block after the other. All memory is allocated in open(). model, budget and sound outlive it.
class LiveColumns : public AudioColumns {
 public:
  static Expected<std::unique_ptr<LiveColumns>> open(const Wav2Vec2& model, Budget& budget, const LiveShape& shape,
                                                     LiveSound& sound);
  int64_t count() const override { return 1; }
  // Of a whole block, in order: the sound decides now what the block has.
  Expected<bool> columns(int64_t first, int64_t count, float* out) override;
  // Checked between layers: columns() is kCancelled then.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }
  Loudness loudness() const { return loudness_.get(); }

 private:
  LiveColumns(const Wav2Vec2& model, const LiveShape& shape, LiveSound& sound)
      : model_(model), shape_(shape), sound_(sound) {}
  void update_samples(int64_t block);
  Status hear();
  void interpolate(int64_t first, int64_t count, float* out) const;

  const Wav2Vec2& model_;
  LiveShape shape_;
  LiveSound& sound_;
  LiveMemory memory_;
  std::unique_ptr<Wav2Vec2Activations> activations_;
  RunningLoudness loudness_;
  std::stop_token stop_;
  std::vector<float> samples_, normalised_;  // at 16 kHz, of the window
  int64_t first_state_ = 0, states_ = 0;     // the window
};

}  // namespace liveavatar
