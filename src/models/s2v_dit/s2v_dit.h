// The causal S2V DiT of Live Avatar: a block of three latent frames is denoised looking at a ring of the last clip, a sink
// of reference and motion latents, the prompt and the sound. Source: Live Avatar (arXiv 2512.04677) on Wan2.2-S2V.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "models/s2v_dit/config.h"
#include "models/s2v_dit/state.h"
#include "models/s2v_dit/weights.h"

namespace liveavatar {

// One noisy forward. All f32, valid during the call.
struct BlockInputs {
  Tensor latents;            // [16, 3, H, W]
  double timestep = 0;       // 0..1000
  int64_t step = 0;          // which ring
  int64_t start_latent = 0;  // absolute, a multiple of block_latents
  int64_t relative_dist = 30;
  Tensor pose;               // optional [16, 3, H, W]
};

class S2vDit {
 public:
  using Observer = std::function<void(const std::string& name, const Tensor& value)>;

  // Loads and packs every weight in dtype (kF32 or kBF16). backend and budget outlive the model.
  static Expected<std::unique_ptr<S2vDit>> load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                                Budget& budget, DType dtype);
  const DitConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }
  // Sees intermediate tensors of noisy forwards; for finding faults. Empty in production.
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  // Cross-attention keys and values of the prompt: rows [tokens <= text_len, text_dim] f32.
  void encode_text(const Tensor& rows, DitActivations& a, DitCaches& caches);
  // Tokens of a block's sound for one actor: features [layers, audio_dim, 12] f32.
  void encode_audio(const Tensor& features, int64_t actor, DitActivations& a, DitCaches& caches);
  // Where each actor is: masks [actors, 3, h, w] f32; empty: everywhere.
  void set_actor_masks(const Tensor& masks, DitCaches& caches);
  // Fills the sink: reference [16, 1, H, W], motion [16, 19, H, W] f32. The rings stay.
  void prefill(const DitGeometry& g, const Tensor& reference, const Tensor& motion, DitActivations& a, DitCaches& caches);

  // A noisy forward in its parts, so that schedules can order layers of several forwards: begin, layer 0.., end.
  void begin(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches);
  void layer(int64_t i, const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches);
  void end(const DitGeometry& g, DitActivations& a, const Tensor& velocity);  // [16, 3, H, W] f32
  void forward(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches, const Tensor& velocity);

 private:
  S2vDit(const DitConfig& config, Backend& backend, DType dtype) : config_(config), backend_(backend), dtype_(dtype) {}
  void observe(const std::string& name, const Tensor& value) {
    if (observer_) observer_(name, value);
  }
  const DitLayerWeights& layer_weights(int64_t i) const { return weights_.layers[static_cast<size_t>(i)]; }

  void encode_time(double timestep, DitActivations& a);
  void embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, int64_t kind,
             const Tensor& tokens, DitActivations& a);
  void project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v);
  using SelfAttention = std::function<void(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out)>;
  void transformer_block(int64_t i, const Tensor& x, DitActivations& a, DitCaches& caches, const SelfAttention& attend);
  void inject_audio(int64_t j, const DitGeometry& g, const Tensor& x, DitActivations& a, DitCaches& caches);
  void audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out);

  DitConfig config_;
  Backend& backend_;
  DType dtype_;
  DitWeights weights_;
  Observer observer_;
};

}  // namespace liveavatar
