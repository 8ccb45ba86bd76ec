// wav2vec2-large (XLSR): layer-norm feature extractor, stable-layer-norm transformer; all hidden states are outputs.
// Source: wav2vec 2.0 (arXiv 2006.11477), XLSR (arXiv 2006.13979).
#pragma once

#include <array>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "weights/loader.h"

namespace liveavatar {

// From the folder's config.json. Large: width 1024, 24 layers, 16 heads, ffn 4096, conv 512 x 7.
struct Wav2Vec2Config {
  int64_t width = 0, layers = 0, heads = 0, ffn_dim = 0, conv_dim = 0;
  int64_t position_kernel = 128, position_groups = 16;
  float eps = 1e-5f;
};
// The feature extractor's seven convolutions.
constexpr std::array<int64_t, 7> kExtractorKernels{10, 3, 3, 3, 3, 2, 2}, kExtractorStrides{5, 2, 2, 2, 2, 2, 2};
Expected<Wav2Vec2Config> read_wav2vec2_config(const std::string& dir);
// Sizes from the shapes of an open part's tensors; heads is 0, since shapes do not tell it. Error: another model's
// shapes.
Expected<Wav2Vec2Config> read_wav2vec2_shapes(const TensorSource& source);
// From dir/config.json if it exists, else from the shapes, with heads of width 64.
Expected<Wav2Vec2Config> find_wav2vec2_config(const TensorSource& source, const std::string& dir);

struct Wav2Vec2ConvLayer {
  ConvWeight conv;
  Tensor norm_weight, norm_bias;
};

struct Wav2Vec2LayerWeights {
  LinearWeight q, k, v, out, up, down;
  Tensor norm1_weight, norm1_bias, norm2_weight, norm2_bias;
};

struct Wav2Vec2Weights {
  std::vector<Wav2Vec2ConvLayer> extractor;
  Tensor projection_norm_weight, projection_norm_bias;
  LinearWeight projection;
  ConvWeight position;
  std::vector<Wav2Vec2LayerWeights> layers;
  Tensor norm_weight, norm_bias;
  std::vector<Buffer> buffers;
};

// The position convolution's kernel f32 [width, width / groups, kernel] in the visitor's staging memory; weight norm:
// w[:, :, k] = g[k] * v[:, :, k] / |v[:, :, k]|. Empty after an error.
Tensor merged_position_kernel(const Wav2Vec2Config& config, WeightVisitor& visitor);
// Takes every tensor by its name (weights/part.h).
Expected<Wav2Vec2Weights> load_wav2vec2_weights(const Wav2Vec2Config& config, WeightAllocator& loader);

// Buffers of one pass over at most `frames` hidden states; over a dry-run Arena only their size.
struct Wav2Vec2Activations {
  Tensor samples;         // f32, the feature extractor's chunk
  Tensor conv_a, conv_b;  // flat f32, outputs of its layers
  Tensor features;        // f32 [T, conv_dim]
  Tensor x;               // f32 [T, width]
  Tensor y, q, k, v, attended, hidden;
  Wav2Vec2Activations(const Wav2Vec2Config& config, int64_t frames, DType dtype, Arena& arena);
};

// Memory of passes over at most `frames` hidden states: scratch, activations and the output states.
struct Wav2Vec2Memory {
  Arena arena;
  OwnedTensor states;  // f32 [layers + 1, frames, width]
  static Expected<Wav2Vec2Memory> allocate(const Wav2Vec2Config& config, int64_t frames, DType dtype, Backend& backend,
                                           Budget& budget);
};

// Constant after loading. The caller owns the memory of a pass.
class Wav2Vec2 {
 public:
  // dir: config.json and model.safetensors or pytorch_model.bin. backend and budget outlive the model.
  static Expected<std::unique_ptr<Wav2Vec2>> load(const std::string& dir, Backend& backend, Budget& budget,
                                                  DType dtype);
  // The same with a weights file of any name.
  static Expected<std::unique_ptr<Wav2Vec2>> load_file(const std::string& dir, const std::string& weights,
                                                       Backend& backend, Budget& budget, DType dtype);
  // From an open part (weights/part.h).
  static Expected<std::unique_ptr<Wav2Vec2>> load(const Wav2Vec2Config& config, const TensorSource& source,
                                                  Backend& backend, Budget& budget, DType dtype);
  // The memory of load() in a dry-run budget. Without weights.
  static Expected<std::unique_ptr<Wav2Vec2>> dry_run(const Wav2Vec2Config& config, Backend& backend, Budget& budget,
                                                     DType dtype);
  const Wav2Vec2Config& config() const { return config_; }
  Backend& backend() const { return backend_; }
  DType dtype() const { return dtype_; }

  // input_values: 16 kHz, normalised; at least 400 samples. out f32 [layers + 1, frames, width], frames =
  // frame_count(samples), no more than the activations were allocated for. The last state is after the encoder's norm.
  void hidden_states(std::span<const float> input_values, Wav2Vec2Activations& a, const Tensor& out,
                     const std::stop_token& stop = {}) const;
  // The same with memory from the budget.
  Expected<OwnedTensor> hidden_states(std::span<const float> input_values, Budget& budget) const;

 private:
  Wav2Vec2(Backend& backend, DType dtype) : backend_(backend), dtype_(dtype) {}
  void extract(std::span<const float> samples, Wav2Vec2Activations& a, const Tensor& features) const;
  void layer(const Wav2Vec2LayerWeights& w, const Tensor& x, Wav2Vec2Activations& a) const;

  Backend& backend_;
  DType dtype_;
  Wav2Vec2Config config_;
  Wav2Vec2Weights weights_;
};

}  // namespace liveavatar
