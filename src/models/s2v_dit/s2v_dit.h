// The causal S2V DiT of Live Avatar: a block of three latent frames is denoised looking at a ring of the last clip, a
// sink of reference and motion latents, the prompt and the sound. Source: Live Avatar (arXiv 2512.04677) on Wan2.2-S2V.
#pragma once

#include <functional>
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

class S2vDit {
 public:
  using Observer = std::function<void(std::string_view name, const Tensor& value)>;

  // Loads and packs every weight. backend and budget outlive the model.
  static Expected<std::unique_ptr<S2vDit>> load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                                Budget& budget, DitTypes types);
  // From a packed file: all but the layers is read now, the layers by page_in().
  static Expected<std::unique_ptr<S2vDit>> open(PackedDit packed, Backend& backend, Budget& budget);

  // Before forwards: `resident` layers are read into memory, the others will be as forwards come by. page_out() frees
  // them. Both do nothing where load() has everything in memory.
  Status page_in(int64_t resident);
  void page_out();
  const PagedPages* paged() const { return paged_.get(); }  // null: not paged in

  const DitConfig& config() const { return config_; }
  const DitTypes& types() const { return types_; }
  // Sees intermediate tensors of encode_text, encode_audio and noisy forwards, in host memory, valid during the call:
  // "text_embedding",
  // "block.2", "block.2.ffn", "adain.0", "head", ... For finding faults: it costs products. Empty in production.
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  // The prompt: rows [tokens <= text_len, text_dim] f32. Its keys and values are made layer by layer by the next
  // forward, and so is what the injectors make of a sound: weights on disk are read for forwards alone.
  void encode_text(const Tensor& rows, DitActivations& a, DitCaches& caches);
  // Tokens of a block's sound for one actor: features [layers, audio_dim, 12] f32.
  void encode_audio(const Tensor& features, int64_t actor, DitActivations& a, DitCaches& caches);
  void encode_audio(const Tensor& features, DitActivations& a, AudioTokens& tokens);
  // Fills the sink: reference [16, 1, H, W], motion [16, 19, H, W] f32. The rings stay. Uses flight 0.
  void prefill(const DitGeometry& g, const Tensor& reference, const Tensor& motion, DitActivations& a,
               DitCaches& caches);

  // Noisy forwards in their parts: each begins, all of them go through layer 0.. together, each ends. The layer's
  // weights are fetched once for all. Forwards in flight together belong to different steps.
  void begin(const DitGeometry& g, const BlockInputs& in, DitFlight& flight, DitActivations& a, DitCaches& caches);
  void layer(int64_t i, const DitGeometry& g, std::span<DitFlight* const> flights, DitActivations& a,
             DitCaches& caches);
  void end(const DitGeometry& g, DitFlight& flight, DitActivations& a, const Tensor& velocity);  // [16, 3, H, W] f32
  // One by itself, in flight 0.
  void forward(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches,
               const Tensor& velocity);
  // Whether the weights could be read so far; after a failure forwards do nothing.
  Status status() const { return pages_ == nullptr ? Status() : pages_->status(); }

 private:
  S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types);
  void observe(std::string_view name, const Tensor& value) const {
    if (observer_) observer_(name, Download(backend_, value).tensor());
  }
  // "<group>.<i><part>": the name is put together only for an observer.
  void observe(const char* group, int64_t i, const char* part, const Tensor& value) const {
    if (observer_) observe(std::string(group) + "." + std::to_string(i) + part, value);
  }
  Status read_back_shares();
  // A product that a forward adds to the residual stream at once, seen by itself. scratch is overwritten.
  void observe_product(const char* group, int64_t i, const char* part, const Tensor& x, const LinearWeight& w,
                       const Tensor& scratch);
  DitPin pin(int64_t layer, DitPart part) {
    return {*pages_, backend_, first_page_[static_cast<size_t>(layer)] + static_cast<size_t>(part)};
  }

  void encode_time(double timestep, DitFlight& flight, DitActivations& a);
  void embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, int64_t kind,
             const Tensor& tokens, DitActivations& a);
  void project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v);
  struct Pass {  // one layer of the forwards in flight
    int64_t layer = 0;
    const DitGeometry& geometry;
    DitActivations& a;
    DitCaches& caches;
  };
  template <typename Attend>  // (q, k, v, out): what self-attention looks at
  void self_attention(const Pass& p, const DitAttentionWeights& w, DitFlight& flight, const Tensor& x,
                      const Attend& attend);
  void cross_attention(const Pass& p, const DitPageWeights& w, const Tensor& x);
  void feed_forward(const Pass& p, const DitPageWeights& w, DitFlight& flight, const Tensor& x);
  void look_around(const Pass& p, const DitAttentionWeights& w, DitFlight& flight);
  void inject_audio(const Pass& p, const DitPageWeights& w, DitFlight& flight);
  void modulation(const Pass& p, const DitFlight& flight);
  void project_text(const Pass& p, const DitAttentionWeights& w);
  Tensor actor_gate(const Tensor& mask, DitActivations& a);
  void project_sound(const Pass& p, const DitPageWeights& w, AudioTokens& tokens);
  KeyValues turned_sink(const KeyValues& cond, const DitFlight& flight, DitActivations& a);
  void keep(const Tensor& x, const Tensor& cache, const Tensor& scale);
  void audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out);

  DitConfig config_;
  Backend& backend_;
  DitTypes types_;
  DitWeights weights_;
  std::vector<float> layer_shares_;  // of the audio encoder's states, for the host
  std::vector<size_t> first_page_;   // of each layer
  std::unique_ptr<ResidentPages> resident_;
  std::optional<PackedDit> packed_;
  Budget* budget_ = nullptr;  // of packed_'s pages
  std::unique_ptr<PagedPages> paged_;
  DitPages* pages_ = nullptr;  // resident_ or paged_
  Observer observer_;
};

}  // namespace liveavatar
