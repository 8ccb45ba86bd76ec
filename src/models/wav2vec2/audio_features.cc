#include "models/wav2vec2/audio_features.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/rounding.h"
#include "core/stop.h"
#include "models/wav2vec2/timeline.h"

namespace liveavatar {

float Loudness::normalise(float x) const { return static_cast<float>((x - mean) / std::sqrt(variance + 1e-7)); }

Expected<Loudness> measure_loudness(MonoSource& mono, const std::stop_token& stop) {
  // Statistics of a few seconds each, merged by their means: accurate enough for eight hours.
  Loudness total;
  std::vector<float> chunk(1 << 16);
  double squares = 0;  // around the running mean
  while (true) {
    LA_RETURN_IF_ERROR(check_stop(stop));
    LA_ASSIGN_OR_RETURN(int64_t got, mono.read(chunk.data(), static_cast<int64_t>(chunk.size())));
    if (got == 0) break;
    double mean = 0, deviation = 0;
    for (int64_t i = 0; i < got; ++i) mean += chunk[size_t(i)];
    mean /= double(got);
    for (int64_t i = 0; i < got; ++i) deviation += (chunk[size_t(i)] - mean) * (chunk[size_t(i)] - mean);
    double before = double(total.samples), now = double(got), delta = mean - total.mean;
    total.mean += delta * now / (before + now);
    squares += deviation + delta * delta * before * now / (before + now);
    total.samples += got;
  }
  if (total.samples > 0) total.variance = squares / double(total.samples);
  LA_RETURN_IF_ERROR(mono.rewind());
  return total;
}

AudioWindow audio_window(int64_t voice_samples, const AudioFeaturesOptions& options) {
  int64_t window = static_cast<int64_t>(options.window_seconds * 50),
          context = static_cast<int64_t>(options.context_seconds * 50), all = frame_count(voice_samples);
  LA_CHECK(context > 0 && window > 2 * context);
  bool whole = double(voice_samples) <= options.full_seconds * kModelRateHz || all <= window;
  return whole ? AudioWindow{all, 0} : AudioWindow{window, context};
}

int64_t AudioWindow::samples() const { return (frames - 1) * kHopSamples + kReachSamples; }

Expected<AudioMemory> AudioMemory::allocate(const Wav2Vec2Config& config, const AudioWindow& window, DType dtype,
                                            Backend& backend, Budget& budget) {
  AudioMemory memory;
  size_t sample_bytes = static_cast<size_t>(window.samples()) * sizeof(float);
  LA_ASSIGN_OR_RETURN(memory.samples, Charge::acquire(budget.host(), MemoryCategory::kAudio, sample_bytes));
  LA_ASSIGN_OR_RETURN(memory.model, Wav2Vec2Memory::allocate(config, window.frames, dtype, backend, budget));
  return memory;
}

Status check_voice(const Loudness& loudness, const std::string& where) {
  if (frame_count(loudness.samples) >= 2) return {};
  return corrupt((where.empty() ? "" : where + ": ") + "the voice holds " +
                 std::to_string(loudness.samples * 1000 / kModelRateHz) +
                 " ms of audio; at least 45 ms are needed; give a longer one");
}

int64_t voice_frames(int64_t voice_samples, int64_t fps) {
  return ceil_div(voice_samples * fps, int64_t{kModelRateHz});
}

int64_t voice_clips(int64_t voice_samples, int64_t infer_frames, int64_t fps) {
  return clip_count(interpolated_length(frame_count(voice_samples)), infer_frames, fps);
}

Expected<std::unique_ptr<AudioFeatures>> AudioFeatures::open(const Wav2Vec2& model, Budget& budget, MonoSource& mono,
                                                             const Loudness& loudness,
                                                             const AudioFeaturesOptions& options) {
  LA_RETURN_IF_ERROR(check_voice(loudness, mono.where()));
  LA_RETURN_IF_ERROR(mono.rewind());
  std::unique_ptr<AudioFeatures> features(new AudioFeatures(model, budget, mono, options));
  features->loudness_ = loudness;
  features->frames_50hz_ = frame_count(loudness.samples);
  features->frames_30hz_ = interpolated_length(features->frames_50hz_);
  features->window_ = audio_window(loudness.samples, options);
  return features;
}

// Fills samples_ with normalised samples [first, first + count). Keeps those that it already has.
Status AudioFeatures::read_samples(int64_t first, int64_t count) {
  if (first < samples_first_) {
    LA_RETURN_IF_ERROR(mono_.rewind());
    samples_.clear();
    samples_first_ = samples_read_ = 0;
  }
  int64_t dropped = std::min(first, samples_read_) - samples_first_;
  samples_.erase(samples_.begin(), samples_.begin() + dropped);
  samples_first_ += dropped;
  std::vector<float> chunk(1 << 14);
  while (samples_read_ < first + count) {
    LA_RETURN_IF_ERROR(check_stop(stop_));
    bool skipping = samples_read_ < first;
    int64_t want =
        std::min<int64_t>((skipping ? first : first + count) - samples_read_, static_cast<int64_t>(chunk.size()));
    LA_ASSIGN_OR_RETURN(int64_t got, mono_.read(chunk.data(), want));
    if (got == 0) return corrupt("the voice ended earlier than when it was first read; has the file changed?");
    samples_read_ += got;
    if (skipping) {
      samples_first_ = samples_read_;
    } else {
      for (int64_t i = 0; i < got; ++i) samples_.push_back(loudness_.normalise(chunk[size_t(i)]));
    }
  }
  return {};
}

Status AudioFeatures::load_window(int64_t first_frame, int64_t frames) {
  if (!activations_) {
    LA_ASSIGN_OR_RETURN(memory_,
                        AudioMemory::allocate(model_.config(), window_, model_.dtype(), model_.backend(), budget_));
    activations_ =
        std::make_unique<Wav2Vec2Activations>(model_.config(), window_.frames, model_.dtype(), memory_.model.arena);
    samples_.reserve(static_cast<size_t>(window_.samples()));
  }
  int64_t count = (frames - 1) * kHopSamples + kReachSamples;
  LA_RETURN_IF_ERROR(read_samples(first_frame * kHopSamples, count));
  Tensor out = memory_.model.states.tensor.front({layers(), frames, width()});
  model_.hidden_states({samples_.data(), size_t(count)}, *activations_, out, stop_);
  LA_RETURN_IF_ERROR(check_stop(stop_));
  states_.emplace(model_.backend(), out);
  window_first_ = first_frame;
  window_count_ = frames;
  return {};
}

// Makes hidden states `frame` and `frame + 1` available. Windows are on a fixed grid, so that a column does not depend
// on the order of requests.
Status AudioFeatures::need_frame(int64_t frame) {
  int64_t stride = window_.frames - 2 * window_.context_frames;
  int64_t step = std::max<int64_t>(frame - window_.context_frames, 0) / stride;
  int64_t first = std::min(step * stride, frames_50hz_ - window_.frames);
  if (window_count_ > 0 && first == window_first_) return {};
  return load_window(first, window_.frames);
}

Status AudioFeatures::columns(int64_t first, int64_t count, float* out) {
  std::memset(out, 0, static_cast<size_t>(layers() * width() * count) * sizeof(float));
  for (int64_t i = 0; i < count; ++i) {
    int64_t source = column_source(first + i, frames_30hz_, options_.fps);
    if (source < 0) continue;
    Between at = between(source, frames_30hz_, frames_50hz_);
    LA_RETURN_IF_ERROR(need_frame(at.low));
    int64_t low = at.low - window_first_, high = std::min(at.low + 1, frames_50hz_ - 1) - window_first_;
    for (int64_t l = 0; l < layers(); ++l) {
      const float* states = states_->f32() + l * window_count_ * width();
      for (int64_t c = 0; c < width(); ++c) {
        out[(l * width() + c) * count + i] =
            states[low * width() + c] * (1 - at.share) + states[high * width() + c] * at.share;
      }
    }
  }
  return {};
}

}  // namespace liveavatar
