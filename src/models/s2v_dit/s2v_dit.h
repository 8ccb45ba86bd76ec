// The causal S2V DiT of Live Avatar: a block of three latent frames is denoised looking at a ring of the last clip, a
// sink of reference and motion latents, the prompt and the sound. Source: Live Avatar (arXiv 2512.04677) on Wan2.2-S2V.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

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
  Tensor pose;  // optional [16, 3, H, W]
  // The block's sound, an actor each; empty: that of the caches. Blocks in flight together bring their own.
  std::span<const AudioTokens> sound;
};

class S2vDit {
 public:
  using Observer = std::function<void(std::string_view name, const Tensor& value)>;

  // Loads and packs every weight. backend and budget outlive the model.
  static Expected<std::unique_ptr<S2vDit>> load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                                Budget& budget, DitTypes types);
  const DitConfig& config() const { return config_; }
  const DitTypes& types() const { return types_; }
  // Sees intermediate tensors of encode_text, encode_audio and noisy forwards, valid during the call: "text_embedding",
  // "block.2", "block.2.ffn", "adain.0", "head", ... For finding faults: it costs products. Empty in production.
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  // Cross-attention keys and values of the prompt: rows [tokens <= text_len, text_dim] f32.
  void encode_text(const Tensor& rows, DitActivations& a, DitCaches& caches);
  // Tokens of a block's sound for one actor: features [layers, audio_dim, 12] f32.
  void encode_audio(const Tensor& features, int64_t actor, DitActivations& a, DitCaches& caches);
  void encode_audio(const Tensor& features, DitActivations& a, const AudioTokens& tokens);
  // Where each actor is: masks [actors, 3, h, w] f32; empty: everywhere.
  void set_actor_masks(const Tensor& masks, DitCaches& caches);
  // Fills the sink: reference [16, 1, H, W], motion [16, 19, H, W] f32. The rings stay.
  void prefill(const DitGeometry& g, const Tensor& reference, const Tensor& motion, DitActivations& a,
               DitCaches& caches);

  // A noisy forward in its parts, so that schedules can order layers of several forwards: begin, layer 0.., end.
  void begin(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches);
  void layer(int64_t i, const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches);
  void end(const DitGeometry& g, DitActivations& a, const Tensor& velocity);  // [16, 3, H, W] f32
  void forward(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches,
               const Tensor& velocity);

 private:
  S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types)
      : config_(config), backend_(backend), types_(types) {}
  // "<group>.<i><part>": the name is put together only for an observer.
  void observe(const char* group, int64_t i, const char* part, const Tensor& value) const {
    if (observer_) observer_(std::string(group) + "." + std::to_string(i) + part, value);
  }
  // A product that a forward adds to the residual stream at once, seen by itself. scratch is overwritten.
  void observe_product(const char* group, int64_t i, const char* part, const Tensor& x, const LinearWeight& w,
                       const Tensor& scratch);
  const DitLayerWeights& layer_weights(int64_t i) const { return weights_.layers[static_cast<size_t>(i)]; }

  void encode_time(double timestep, DitActivations& a);
  void embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, int64_t kind,
             const Tensor& tokens, DitActivations& a);
  void project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v);
  KeyValues turned_sink(const KeyValues& cond, DitActivations& a);
  void keep(const Tensor& x, const Tensor& cache, const Tensor& scale);
  template <typename SelfAttention>  // (q, k, v, out): what self-attention looks at
  void transformer_block(int64_t i, const Tensor& x, DitActivations& a, DitCaches& caches, const SelfAttention& attend);
  void inject_audio(int64_t j, const DitGeometry& g, std::span<const AudioTokens> sound, DitActivations& a,
                    DitCaches& caches);
  void audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out);

  DitConfig config_;
  Backend& backend_;
  DitTypes types_;
  DitWeights weights_;
  Observer observer_;
};

}  // namespace liveavatar
