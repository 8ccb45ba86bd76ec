// What the video model hears: all hidden states of wav2vec2 at 25 columns a second, for a voice of any length.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>
#include <vector>

#include "core/memory.h"
#include "core/mono_source.h"
#include "models/wav2vec2/wav2vec2.h"
#include "ops/transfer.h"

namespace liveavatar {

struct AudioFeaturesOptions {
  int64_t fps = 25;
  double full_seconds = 60;    // up to here one pass over everything, exactly as the original
  double window_seconds = 24;  // beyond: windows of this length ...
  double context_seconds = 3;  // ... of which this much at each end is heard but not used; above 0, below half a window
};

// How a voice is heard: hidden states at a time, and how many of them at each end are context. All of a short one at
// once.
struct AudioWindow {
  int64_t frames = 0, context_frames = 0;
  int64_t samples() const;
};
AudioWindow audio_window(int64_t voice_samples, const AudioFeaturesOptions& options);

// All that AudioFeatures holds while it runs.
struct AudioMemory {
  Wav2Vec2Memory model;
  Charge samples;  // a window of the voice, f32; of the host
  static Expected<AudioMemory> allocate(const Wav2Vec2Config& config, const AudioWindow& window, DType dtype,
                                        Backend& backend, Budget& budget);
};

// (x - mean) / sqrt(variance + 1e-7) over the whole utterance, as the original's preprocessor does.
struct Loudness {
  double mean = 0, variance = 0;
  int64_t samples = 0;
  float normalise(float x) const;
};
// Reads the source to its end and rewinds it; stop is heard on the way.
Expected<Loudness> measure_loudness(MonoSource& mono, const std::stop_token& stop = {});
// Error: a voice without two hidden states (45 ms).
Status check_voice(const Loudness& loudness, const std::string& where);
// Video frames that cover a voice.
int64_t voice_frames(int64_t voice_samples, int64_t fps);
// Clips of infer_frames frames, by the original's rule.
int64_t voice_clips(int64_t voice_samples, int64_t infer_frames, int64_t fps);

// Reads a voice, whose loudness was measured, as columns are asked for. Holds one window. Not thread-safe; model and
// mono outlive it.
class AudioFeatures {
 public:
  // Error: as check_voice.
  static Expected<std::unique_ptr<AudioFeatures>> open(const Wav2Vec2& model, MonoSource& mono,
                                                       const Loudness& loudness, const AudioFeaturesOptions& options);
  // Measures the loudness first.
  static Expected<std::unique_ptr<AudioFeatures>> open(const Wav2Vec2& model, MonoSource& mono,
                                                       const AudioFeaturesOptions& options) {
    LA_ASSIGN_OR_RETURN(Loudness loudness, measure_loudness(mono));
    return open(model, mono, loudness, options);
  }

  // Heard between layers and pieces of sound: columns() is kCancelled then.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }
  int64_t voice_samples() const { return loudness_.samples; }
  int64_t layers() const { return model_.config().layers + 1; }
  int64_t width() const { return model_.config().width; }

  // Columns [first, first + count) -> out f32 [layers, width, count]; zeros past the voice's end. Asking forwards is
  // cheap.
  Status columns(int64_t first, int64_t count, float* out);

 private:
  AudioFeatures(const Wav2Vec2& model, MonoSource& mono, const AudioFeaturesOptions& options)
      : model_(model), mono_(mono), options_(options) {}
  Status need_frame(int64_t frame);
  Status load_window(int64_t first_frame, int64_t frames);
  Status read_samples(int64_t first, int64_t count);

  const Wav2Vec2& model_;
  MonoSource& mono_;
  AudioFeaturesOptions options_;
  std::stop_token stop_;
  Loudness loudness_;
  int64_t frames_50hz_ = 0, frames_30hz_ = 0;
  AudioWindow window_;
  AudioMemory memory_;
  std::unique_ptr<Wav2Vec2Activations> activations_;
  std::optional<Download> states_;                // of the window
  int64_t window_first_ = 0, window_count_ = 0;   // hidden states that memory_ holds
  std::vector<float> samples_;                    // normalised, of the window
  int64_t samples_first_ = 0, samples_read_ = 0;  // where samples_ begins; how far mono_ has been read
};

}  // namespace liveavatar
