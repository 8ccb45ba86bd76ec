// The causal S2V DiT of Live Avatar. It denoises a block of three latent frames, with attention to the KV cache of the
// last clip, to a sink of reference and motion latents, to the prompt and to the audio. Source: Live Avatar
// (arXiv 2512.04677) on Wan2.2-S2V.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "models/s2v_dit/config.h"
#include "models/s2v_dit/packed.h"
#include "models/s2v_dit/shard.h"
#include "models/s2v_dit/state.h"
#include "models/s2v_dit/weight_groups.h"
#include "models/s2v_dit/weights.h"
#include "ops/transfer.h"

namespace liveavatar {

// Constant after loading: the state of a video is in its DitSession.
class S2vDit {
 public:
  // Loads and packs every weight. backend and budget outlive the model.
  static Expected<std::unique_ptr<S2vDit>> load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                                Budget& budget, DitTypes types);
  // The memory of load() in a dry-run budget, while the source takes scratch_bytes. Without weights.
  static Expected<std::unique_ptr<S2vDit>> dry_run(const DitConfig& config, Backend& backend, Budget& budget,
                                                   DitTypes types, size_t scratch_bytes = 0);
  // From a packed file. open_weight_groups() reads the layers; all other weights are read here. Over a dry-run budget
  // nothing is read.
  static Expected<std::unique_ptr<S2vDit>> open(PackedDit packed, Backend& backend, Budget& budget);

  // Loads and packs every weight, the layers' into host memory beside the device. loader: of `budget`, the device's;
  // over a dry run it counts.
  static Expected<std::unique_ptr<S2vDit>> load_beside(const DitConfig& config, const DitTypes& types,
                                                       WeightAllocator& loader, Backend& backend, Budget& budget);

  // Loads one rank's share of the layers, and all that is in no layer. set_peers() before the first forward.
  static Expected<std::unique_ptr<S2vDit>> load_shard(const DitConfig& config, const DitTypes& types,
                                                      const RankShare& share, WeightAllocator& loader, Backend& backend,
                                                      Budget& budget);
  void set_peers(PagePeers& peers) { peers_ = &peers; }
  // For other ranks: a range of a page of this share, in host memory. Any thread, also while forwards run.
  Status read_page(size_t page, const PageRange& range, std::byte* target) const;

  // The same weights for another backend of the same device and packing. This object outlives the result.
  std::unique_ptr<S2vDit> beside(Backend& backend) const;

  // The layers' weights for forwards. From a packed file or host memory, those that stay on the device (or, of a file,
  // beside it) are read here, the others when a forward needs them, into memory of the budget. Otherwise all are on the
  // device already. The model outlives the result.
  Expected<std::unique_ptr<DitWeightGroups>> open_weight_groups(const DitAccess& access, Budget& budget,
                                                                const std::stop_token& stop = {}) const;

  // What is then brought to the device.
  PassBytes paged_bytes(const Residency& residency) const;

  const DitConfig& config() const { return config_; }
  const DitTypes& types() const { return types_; }

  // The prompt: rows [tokens <= text_len, text_dim] f32. The next forward embeds it and computes its keys and values
  // layer by layer, and those of the audio: thus weights on disk are read only for forwards.
  void encode_text(const Tensor& rows, DitSession& session) const;
  // Tokens of a block's audio for one actor: features [layers, audio_dim, 12] f32.
  void encode_audio(const Tensor& features, DitSession& session, AudioTokens& tokens) const;
  // Fills the sink: reference [16, 1, H, W], motion [16, 19, H, W] f32. The KV caches are not changed. Uses forward 0.
  void prefill(const Tensor& reference, const Tensor& motion, DitWeightGroups& weights, DitSession& session) const;

  // Noisy forwards in steps: begin() for each, layer() 0.. for all of them together, end() for each. A layer's weights
  // are acquired once for all forwards. These may belong to several sessions; those of one session have different
  // steps.
  void begin(const BlockInputs& in, ForwardState& f) const;
  void layer(int64_t i, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const;
  void end(ForwardState& f, const Tensor& velocity) const;  // [16, 3, H, W] f32
  // One complete forward, in the session's forward 0.
  void forward(const BlockInputs& in, DitWeightGroups& weights, DitSession& session, const Tensor& velocity) const;

 private:
  S2vDit(const DitConfig& config, Backend& backend, const DitTypes& types);
  Status read_back_shares();
  void observe(const DitSession& s, std::string_view name, const Tensor& value) const {
    if (s.observer) s.observer(name, Download(backend_, value).tensor());
  }
  // "<group>.<i><part>": the name is built only if there is an observer.
  void observe(const DitSession& s, const char* group, int64_t i, const char* part, const Tensor& value) const {
    if (s.observer) observe(s, std::string(group) + "." + std::to_string(i) + part, value);
  }
  // Observes a matrix product that the forward adds to the residual stream directly. scratch is overwritten.
  struct Product {
    const char* group;
    int64_t i;
    const char* part;
  };
  void observe_product(const DitSession& s, const Product& name, const Tensor& x, const LinearWeight& w,
                       const Tensor& scratch) const;
  // Acquires the group of a layer that has these weights.
  template <typename Weights>
  DitWeightGuard<Weights> acquire(DitWeightGroups& weights, int64_t layer) const {
    return {weights, backend_, group_of(Weights::kPart, layer)};
  }

  // The two groups of a self-attention or FFN, for so many forwards.
  DitSelfAttentionGroups self_attention_groups(DitWeightGroups& weights, int64_t layer, int64_t forwards) const {
    return {weights, backend_, group_of(DitPart::kSelfAttention, layer), forwards > 1};
  }
  DitFfnGroups ffn_groups(DitWeightGroups& weights, int64_t layer, int64_t forwards) const {
    return {weights, backend_, group_of(DitPart::kFfnIn, layer), forwards > 1};
  }
  size_t group_of(DitPart part, int64_t layer) const {
    const size_t first = first_group_[static_cast<size_t>(layer)];
    return first + static_cast<size_t>(part) - static_cast<size_t>(DitPart::kSelfAttention);
  }
  DitUses uses_of(std::span<ForwardState* const> forwards) const;

  void encode_time(double timestep, TimeRows& rows, ForwardState& f) const;
  void project_time(DitWeightGroups& weights, std::span<ForwardState* const> forwards) const;
  // Some rows of a forward's sequence of tokens, of which this rank has its own in f.x.
  struct TokenPart {
    ForwardState& f;
    TokenLayout layout;
    Range rows;
  };
  // body(row of the sequence, rows of f.x)
  template <typename Body>
  void for_each_own(const TokenPart& part, const Body& body) const {
    const RankShare& share = part.f.session->geometry.share;
    for_each_range(part.layout, share, share.index, part.rows,
                   [&](int64_t row, int64_t own, int64_t rows) { body(row, part.f.x.slice(own, rows)); });
  }
  void embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, TokenType type,
             const TokenPart& to) const;
  // Operands of a self-attention: all tokens, and the heads of this rank.
  struct SelfAttention {
    Tensor q, k, v, attended;  // [tokens, heads * d]
    int64_t heads = 0;
  };
  SelfAttention project(const DitSelfAttentionWeights& w, const TokenLayout& layout, ForwardState& f) const;
  // Where a layer's branch is added.
  struct Residual {
    int64_t layer = 0;
    Tensor gate, x;
  };
  void add_attended(const LinearWeight& o, const TokenLayout& layout, const SelfAttention& s, ForwardState& f,
                    const Residual& to) const;
  float attention_scale() const;
  // Attention to many keys: in 8 bits if the weights are int8 and the backend supports it.
  AttentionSpec wide_attention(int64_t heads) const;
  void write_cache(const Tensor& x, const Tensor& cache, const Tensor& scale) const;
  void write_keys(const SelfAttention& s, const Tensor& rope, const KeyValues& cache) const;
  KeyValues rope_sink(int64_t layer, int64_t heads, const ForwardState& f) const;
  // Adaptive layer norm: shift and scale of the norm, and the gate of the branch's output.
  struct AdaLn {
    Modulation norm;
    Tensor gate;
  };
  AdaLn ada_ln(int64_t layer, int64_t first_row, const ForwardState& f) const;
  void self_attention(int64_t layer, DitSelfAttentionGroups& w, ForwardState& f, const Tensor& x) const;
  void prefill_self_attention(int64_t layer, DitSelfAttentionGroups& w, ForwardState& f, const Tensor& x) const;
  void cross_attention(int64_t layer, const DitCrossAttentionWeights& w, ForwardState& f, const Tensor& x) const;
  void feed_forward(int64_t layer, DitFfnGroups& w, ForwardState& f, const Tensor& x) const;
  void audio_cross_attention(int64_t layer, const DitAudioAttentionWeights& w, ForwardState& f) const;
  void embed_prompt(DitWeightGroups& weights, std::span<ForwardState* const> forwards) const;
  void project_keys(const DitKeyWeights& w, const Tensor& x, const KeyValues& to) const;
  void project_text(int64_t layer, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const;
  Tensor actor_gate(const Tensor& mask, DitSession& session) const;
  void project_audio(int64_t layer, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const;
  void audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out) const;

  DitConfig config_;
  Backend& backend_;
  DitTypes types_;
  DitWeights weights_;
  std::vector<float> layer_shares_;  // weights of the audio encoder's hidden states, in host memory
  std::vector<size_t> first_group_;  // of each layer
  std::optional<PackedDit> packed_;
  std::optional<HostDit> beside_;
  std::optional<ShardDit> shard_;
  PagePeers* peers_ = nullptr;
};

}  // namespace liveavatar
