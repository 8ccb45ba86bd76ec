// The causal S2V DiT of Live Avatar: a block of three latent frames is denoised looking at a ring of the last clip, a
// sink of reference and motion latents, the prompt and the sound. Source: Live Avatar (arXiv 2512.04677) on Wan2.2-S2V.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "models/s2v_dit/config.h"
#include "models/s2v_dit/packed.h"
#include "models/s2v_dit/pages.h"
#include "models/s2v_dit/state.h"
#include "models/s2v_dit/weights.h"
#include "ops/transfer.h"

namespace liveavatar {

// Constant once it is loaded: what a video needs is in its DitSession.
class S2vDit {
 public:
  // Loads and packs every weight. backend and budget outlive the model.
  static Expected<std::unique_ptr<S2vDit>> load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                                Budget& budget, DitTypes types);
  // From a packed file: all but the layers is read now, the layers by open_pages().
  static Expected<std::unique_ptr<S2vDit>> open(PackedDit packed, Backend& backend, Budget& budget);

  // The layers' weights for forwards. Of a packed file `resident` layers are read now, the others as forwards come by,
  // in memory of the budget; else all are there already. Outlived by the model.
  Expected<std::unique_ptr<DitPages>> open_pages(int64_t resident, Budget& budget) const;

  const DitConfig& config() const { return config_; }
  const DitTypes& types() const { return types_; }

  // The prompt: rows [tokens <= text_len, text_dim] f32. Its keys and values are made layer by layer by the next
  // forward, and so is what the injectors make of a sound: weights on disk are read for forwards alone.
  void encode_text(const Tensor& rows, DitSession& session) const;
  // Tokens of a block's sound for one actor: features [layers, audio_dim, 12] f32.
  void encode_audio(const Tensor& features, DitSession& session, AudioTokens& tokens) const;
  // Fills the sink: reference [16, 1, H, W], motion [16, 19, H, W] f32. The rings stay. Uses flight 0.
  void prefill(const Tensor& reference, const Tensor& motion, DitPages& pages, DitSession& session) const;

  // Noisy forwards in their parts: each begins, all of them go through layer 0.. together, each ends. The layer's
  // weights are fetched once for all, which may be of several sessions. Those of one session belong to different steps.
  void begin(const BlockInputs& in, DitFlight& flight) const;
  void layer(int64_t i, DitPages& pages, std::span<DitFlight* const> flights) const;
  void end(DitFlight& flight, const Tensor& velocity) const;  // [16, 3, H, W] f32
  // One by itself, in flight 0.
  void forward(const BlockInputs& in, DitPages& pages, DitSession& session, const Tensor& velocity) const;

 private:
  S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types);
  Status read_back_shares();
  void observe(const DitSession& s, std::string_view name, const Tensor& value) const {
    if (s.observer) s.observer(name, Download(backend_, value).tensor());
  }
  // "<group>.<i><part>": the name is put together only for an observer.
  void observe(const DitSession& s, const char* group, int64_t i, const char* part, const Tensor& value) const {
    if (s.observer) observe(s, std::string(group) + "." + std::to_string(i) + part, value);
  }
  // A product that a forward adds to the residual stream at once, seen by itself. scratch is overwritten.
  struct Product {
    const char* group;
    int64_t i;
    const char* part;
  };
  void observe_product(const DitSession& s, const Product& name, const Tensor& x, const LinearWeight& w,
                       const Tensor& scratch) const;
  // The page of a layer that holds these weights.
  template <typename Weights>
  DitPin<Weights> pin(DitPages& pages, int64_t layer) const {
    return {pages, backend_, first_page_[static_cast<size_t>(layer)] + static_cast<size_t>(Weights::kPart)};
  }

  void encode_time(double timestep, DitFlight& flight) const;
  void embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, TokenType type,
             const Tensor& tokens, DitActivations& a) const;
  void project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v) const;
  void write_cache(const Tensor& x, const Tensor& cache, const Tensor& scale) const;
  void write_turned_keys(const Tensor& k, const Tensor& turns, const KeyValues& cache) const;
  KeyValues turned_sink(int64_t layer, const DitFlight& flight) const;
  // Adaptive layer norm: what a norm is shifted and scaled by, and the gate of what comes of it.
  struct AdaLn {
    Modulation norm;
    Tensor gate;
  };
  AdaLn ada_ln(int64_t layer, int64_t first_row, const DitFlight& flight) const;
  void self_attention(int64_t layer, const DitAttentionWeights& w, DitFlight& flight, const Tensor& x) const;
  void prefill_self_attention(int64_t layer, const DitAttentionWeights& w, DitFlight& flight, const Tensor& x) const;
  void cross_attention(int64_t layer, const DitCrossAttentionWeights& w, DitFlight& flight, const Tensor& x) const;
  void feed_forward(int64_t layer, const DitFfnWeights& w, DitFlight& flight, const Tensor& x) const;
  void inject_audio(int64_t layer, const DitInjectorWeights& w, DitFlight& flight) const;
  void project_text(int64_t layer, const DitAttentionWeights& w, DitSession& session) const;
  Tensor actor_gate(const Tensor& mask, DitActivations& a) const;
  void project_sound(int64_t layer, const DitInjectorWeights& w, AudioTokens& tokens) const;
  void audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out) const;

  DitConfig config_;
  Backend& backend_;
  DitTypes types_;
  DitWeights weights_;
  std::vector<float> layer_shares_;  // of the audio encoder's states, for the host
  std::vector<size_t> first_page_;   // of each layer
  std::optional<PackedDit> packed_;
};

}  // namespace liveavatar
