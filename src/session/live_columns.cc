#include "session/live_columns.h"

#include <algorithm>
#include <cmath>

#include "core/stop.h"
#include "models/wan_vae/config.h"
#include "models/wav2vec2/timeline.h"
#include "ops/transfer.h"

namespace liveavatar {
namespace {

constexpr int64_t kBlockStates = kBlockFrames * kModelRateHz / kFps / kHopSamples;  // 24
constexpr int64_t kBlockHeard = kBlockStates * kHopSamples;                         // samples at 16 kHz

int64_t context_states(const LiveShape& s) { return s.context_ms * kModelRateHz / 1000 / kHopSamples; }
int64_t look_ahead_samples(const LiveShape& s) { return s.look_ahead_ms * kModelRateHz / 1000; }

}  // namespace

void RunningLoudness::add(std::span<const float> frame) {
  constexpr double kQuietest = 0.0025, kPause = 0.03;  // of full scale; of the loudness so far
  constexpr int64_t kLongest = 400;                    // frames: 8 s of speech
  double mean = 0, squares = 0;
  for (float x : frame) {
    mean += x;
    squares += double{x} * x;
  }
  mean /= double(frame.size());
  squares /= double(frame.size());
  const double quietest = std::max(kQuietest, kPause * std::sqrt(get().variance));
  if (squares < quietest * quietest) return;
  frames_ = std::min(frames_ + 1, kLongest);
  const double share = 1 / double(frames_), before = speech_.mean, delta = mean - before;
  const double deviation = squares - 2 * before * mean + before * before;  // around the mean before
  speech_.mean += share * delta;
  speech_.variance = (1 - share) * speech_.variance + share * deviation - share * share * delta * delta;
}

Loudness RunningLoudness::get() const {
  constexpr double kUsualRms = 0.1, kTrusted = 50;  // of full scale; frames
  const double share = std::min(1.0, double(frames_) / kTrusted);
  return {share * speech_.mean, share * speech_.variance + (1 - share) * kUsualRms * kUsualRms, 0};
}

AudioWindow LiveMemory::window_of(const LiveShape& s) {
  const int64_t behind = kBlockHeard + look_ahead_samples(s);
  return {context_states(s) + frame_count(behind), 0};
}

Expected<LiveMemory> LiveMemory::allocate(const LiveShape& s, const Wav2Vec2& model, Budget& budget) {
  LiveMemory memory;
  const AudioWindow window = window_of(s);
  LA_ASSIGN_OR_RETURN(memory.window,
                      AudioMemory::allocate(model.config(), window, model.dtype(), model.backend(), budget));
  const size_t samples = static_cast<size_t>(window.samples() + kHopSamples) * sizeof(float);
  LA_ASSIGN_OR_RETURN(memory.sound,
                      Charge::acquire(budget.host(), MemoryCategory::kAudio, LiveSound::bytes(s) + samples));
  return memory;
}

Expected<LiveChunkMemory> LiveChunkMemory::allocate(const JobShape& s, Budget& budget) {
  LiveChunkMemory memory;
  const Shape frames{s.live.chunks, kVaeFrames, s.height, s.width, 3};
  LA_ASSIGN_OR_RETURN(memory.rgb, OwnedTensor::allocate(budget.host(), MemoryCategory::kMedia, frames, DType::kU8));
  const int64_t samples = s.live.chunks * kVaeFrames * frame_samples(s.live.rate_hz);
  LA_ASSIGN_OR_RETURN(memory.audio, Buffer::allocate(budget.host(), MemoryCategory::kMedia,
                                                     static_cast<size_t>(samples) * sizeof(int16_t)));
  return memory;
}

Expected<std::unique_ptr<LiveColumns>> LiveColumns::open(const Wav2Vec2& model, Budget& budget, const LiveShape& shape,
                                                         LiveSound& sound) {
  std::unique_ptr<LiveColumns> columns(new LiveColumns(model, shape, sound));
  LA_ASSIGN_OR_RETURN(columns->memory_, LiveMemory::allocate(shape, model, budget));
  const AudioWindow window = LiveMemory::window_of(shape);
  columns->activations_ = std::make_unique<Wav2Vec2Activations>(model.config(), window.frames, model.dtype(),
                                                                columns->memory_.window.model.arena);
  const auto samples = static_cast<size_t>(window.samples() + kHopSamples);
  columns->samples_.reserve(samples);
  columns->normalised_.reserve(samples);
  return columns;
}

// The window slides to the block. What is behind the block before is read again: more is known of it now.
void LiveColumns::update_samples(int64_t block) {
  const int64_t first = std::max<int64_t>(0, block * kBlockStates - context_states(shape_));
  const int64_t slid = (first - first_state_) * kHopSamples;
  samples_.erase(samples_.begin(), samples_.begin() + std::min<int64_t>(slid, std::ssize(samples_)));
  first_state_ = first;
  const int64_t begin = first * kHopSamples, end = (block + 1) * kBlockHeard + look_ahead_samples(shape_);
  const int64_t again = std::max(begin, block * kBlockHeard - kHopSamples);
  samples_.resize(static_cast<size_t>(end - begin));
  sound_.resample(again, std::span(samples_).subspan(static_cast<size_t>(again - begin)));
  const std::span<const float> heard =
      std::span<const float>(samples_).subspan(static_cast<size_t>(block * kBlockHeard - begin));
  for (int64_t i = 0; i < kBlockStates; ++i)
    loudness_.add(heard.subspan(static_cast<size_t>(i * kHopSamples), static_cast<size_t>(kHopSamples)));
}

Status LiveColumns::hear() {
  normalised_.resize(samples_.size());
  const Loudness loudness = loudness_.get();
  std::transform(samples_.begin(), samples_.end(), normalised_.begin(), [&](float x) { return loudness.normalise(x); });
  states_ = frame_count(std::ssize(samples_));
  const Wav2Vec2Config& config = model_.config();
  const Tensor out = memory_.window.model.states.tensor.front({config.layers + 1, states_, config.width});
  model_.hidden_states(normalised_, *activations_, out, stop_);
  return check_stop(stop_);
}

// As in a voice without an end: 30 Hz frame f is at hidden state 5 f / 3.
void LiveColumns::interpolate(int64_t first, int64_t count, float* out) const {
  const Wav2Vec2Config& config = model_.config();
  const int64_t layers = config.layers + 1, width = config.width;
  const Download states(model_.backend(), memory_.window.model.states.tensor.front({layers, states_, width}));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = 5 * std::llrint(double(first + i) / double(kFps) * 30.0);
    const int64_t low = std::min(at / 3 - first_state_, states_ - 1), high = std::min(low + 1, states_ - 1);
    const float share = float(at % 3) / 3;
    for (int64_t l = 0; l < layers; ++l) {
      const float* layer = states.f32() + l * states_ * width;
      for (int64_t c = 0; c < width; ++c)
        out[(l * width + c) * count + i] = layer[low * width + c] * (1 - share) + layer[high * width + c] * share;
    }
  }
}

Expected<bool> LiveColumns::columns(int64_t first, int64_t count, float* out) {
  LA_CHECK(count == kBlockFrames && first % kBlockFrames == 0);
  const int64_t block = first / kBlockFrames;
  sound_.place(block);
  update_samples(block);
  LA_RETURN_IF_ERROR(hear());
  interpolate(first, count, out);
  return true;
}

}  // namespace liveavatar
