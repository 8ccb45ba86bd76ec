// Audio input of the video model: all hidden states of wav2vec2 at 25 columns per second, for audio of any length.
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
  double full_seconds = 60;    // up to this length one pass over all, exactly as the original
  double window_seconds = 24;  // longer: windows of this length ...
  double context_seconds = 3;  // ... of which this much at each end is only context; above 0, below half a window
};

// How audio is processed: hidden states in a window, and how many of them at each end are context. Short audio is one
// window.
struct AudioWindow {
  int64_t frames = 0, context_frames = 0;
  int64_t samples() const;
};
AudioWindow audio_window(int64_t voice_samples, const AudioFeaturesOptions& options);

// Memory of AudioFeatures while it runs.
struct AudioMemory {
  Wav2Vec2Memory model;
  Charge samples;  // a window of audio, f32, in host memory
  static Expected<AudioMemory> allocate(const Wav2Vec2Config& config, const AudioWindow& window, DType dtype,
                                        Backend& backend, Budget& budget);
};

// (x - mean) / sqrt(variance + 1e-7) over the whole utterance, as the original's preprocessor does.
struct Loudness {
  double mean = 0, variance = 0;
  int64_t samples = 0;
  float normalise(float x) const;
};
// Reads the source to its end and rewinds it. Checks stop.
Expected<Loudness> measure_loudness(MonoSource& mono, const std::stop_token& stop = {});
// Error: audio of less than two hidden states (45 ms).
Status check_voice(const Loudness& loudness, const std::string& where);
// Video frames that cover the audio.
int64_t voice_frames(int64_t voice_samples, int64_t fps);
// Clips of infer_frames frames, by the rule of the original.
int64_t voice_clips(int64_t voice_samples, int64_t infer_frames, int64_t fps);

// Reads audio of known loudness when columns are requested. Holds one window. Not thread-safe. model, budget and mono
// outlive it.
class AudioFeatures {
 public:
  // The window's memory is charged to the budget by the first columns(). Error: as check_voice.
  static Expected<std::unique_ptr<AudioFeatures>> open(const Wav2Vec2& model, Budget& budget, MonoSource& mono,
                                                       const Loudness& loudness,
                                                       const AudioFeaturesOptions& options = {});

  // Checked between layers and chunks of audio: columns() is kCancelled then.
  void set_stop(std::stop_token stop) { stop_ = std::move(stop); }
  int64_t voice_samples() const { return loudness_.samples; }
  int64_t layers() const { return model_.config().layers + 1; }
  int64_t width() const { return model_.config().width; }

  // Columns [first, first + count) -> out f32 [layers, width, count], with zeros after the end of the audio. Increasing
  // `first` is cheap.
  Status columns(int64_t first, int64_t count, float* out);

 private:
  AudioFeatures(const Wav2Vec2& model, Budget& budget, MonoSource& mono, const AudioFeaturesOptions& options)
      : model_(model), budget_(budget), mono_(mono), options_(options) {}
  Status need_frame(int64_t frame);
  Status load_window(int64_t first_frame, int64_t frames);
  Status read_samples(int64_t first, int64_t count);

  const Wav2Vec2& model_;
  Budget& budget_;
  MonoSource& mono_;
  AudioFeaturesOptions options_;
  std::stop_token stop_;
  Loudness loudness_;
  int64_t frames_50hz_ = 0, frames_30hz_ = 0;
  AudioWindow window_;
  AudioMemory memory_;
  std::unique_ptr<Wav2Vec2Activations> activations_;
  std::optional<Download> states_;                // of the window
  int64_t window_first_ = 0, window_count_ = 0;   // hidden states in memory_
  std::vector<float> samples_;                    // normalised, of the window
  int64_t samples_first_ = 0, samples_read_ = 0;  // first sample in samples_; samples read from mono_
};

}  // namespace liveavatar
