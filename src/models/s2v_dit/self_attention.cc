// The self-attention of a layer: of a block's tokens to the KV cache and the sink, and of the sink's among themselves.
#include <cmath>

#include "models/s2v_dit/s2v_dit.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace liveavatar {

float S2vDit::attention_scale() const { return 1.0f / std::sqrt(static_cast<float>(config_.head_dim())); }

AttentionSpec S2vDit::wide_attention(int64_t heads) const {
  return {.heads = heads, .scale = attention_scale(), .in_8bit = types_.weights == DType::kI8};
}

// q and k are normalised over the whole width, before the split into heads. Then a rank that shares the step gets its
// own heads of all tokens.
S2vDit::SelfAttention S2vDit::project(const DitSelfAttentionWeights& w, const TokenLayout& layout,
                                      ForwardState& f) const {
  const RankShare& share = f.session->geometry.share;
  DitActivations& a = f.session->activations;
  const int64_t tokens = layout.own_rows(share), all_tokens = layout.rows();
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  ops::linear(backend_, y, w.k, k);
  ops::rms_norm(backend_, k, config_.eps, w.norm_k, k);
  ops::linear(backend_, y, w.v, v);
  if (share.whole()) return {q, k, v, a.attended.slice(0, tokens), config_.heads};
  SelfAttention own{a.heads.q.slice(0, all_tokens), a.heads.k.slice(0, all_tokens), a.heads.v.slice(0, all_tokens),
                    a.heads.attended.slice(0, all_tokens), share.of(config_.heads).count};
  const Tensor from[] = {q, k, v}, to[] = {own.q, own.k, own.v};
  f.session->exchange->to_heads(layout, from, to);
  return own;
}

// x += gate * o(attended)
void S2vDit::add_attended(const LinearWeight& o, const TokenLayout& layout, const SelfAttention& s, ForwardState& f,
                          const Residual& to) const {
  DitActivations& a = f.session->activations;
  const int64_t tokens = to.x.dim(0);
  Tensor attended = a.attended.slice(0, tokens);
  if (!f.session->geometry.share.whole()) f.session->exchange->to_tokens(layout, s.attended, attended);
  observe_product(*f.session, {"block", to.layer, ".self_attn"}, attended, o, a.q.slice(0, tokens));
  ops::linear(backend_, attended, o, to.x, {.gate = to.gate, .residual = to.x});
}

// Writes keys or values to a cache, converted to its type.
void S2vDit::write_cache(const Tensor& x, const Tensor& cache, const Tensor& scale) const {
  if (scale.empty()) return ops::copy(backend_, x, cache);
  ops::quantise(backend_, x, cache, scale);
}

// Applies RoPE to keys and writes them to a cache. For a quantised cache RoPE is applied in place first.
void S2vDit::write_keys(const SelfAttention& s, const Tensor& rope, const KeyValues& cache) const {
  bool quantised = !cache.k_scale.empty();
  ops::rope(backend_, s.k, rope, s.heads, quantised ? s.k : cache.k);
  if (quantised) ops::quantise(backend_, s.k, cache.k, cache.k_scale);
}

// The sink's keys and values for this forward. The sink's position moves with the video, so RoPE is applied in every
// forward.
KeyValues S2vDit::rope_sink(int64_t layer, int64_t heads, const ForwardState& f) const {
  const KeyValues& sink = f.session->caches.sink.layers[static_cast<size_t>(layer)];
  Tensor k = sink.k, rotated = f.session->activations.sink_k;
  if (!sink.k_scale.empty()) {
    ops::dequantise(backend_, k, sink.k_scale, rotated);
    k = rotated;
  }
  ops::rope(backend_, k, f.sink_rope, heads, rotated);
  return {rotated, sink.v, Tensor(), sink.v_scale};
}

// x [own block tokens, D] f32 += gate1 * SelfAttention(LN1(x) modulated), with keys and values of the step's KV cache,
// which gets those of this block first, and of the sink.
void S2vDit::self_attention(int64_t layer, DitSelfAttentionGroups& w, ForwardState& f, const Tensor& x) const {
  const DitGeometry& g = f.session->geometry;
  const DitCaches& caches = f.session->caches;
  const int64_t n = g.latent_tokens();
  const TokenLayout layout = g.block_layout();

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, f.session->activations.y.slice(0, x.dim(0)), ada.norm);
  const SelfAttention s = project(w.first(), layout, f);
  ops::rope(backend_, s.q, f.block_rope, s.heads, s.q);

  int64_t first_latent = f.in.start_latent % g.clip_latents;
  KvCacheGuard cache(*caches.kv, backend_, {f.in.step, layer}, first_latent / g.block_latents);
  KeyValues slot = (*cache).slice(first_latent * n, layout.rows());
  write_keys(s, f.block_rope, slot);
  write_cache(s.v, slot.v, slot.v_scale);

  int64_t filled = caches.filled_latents[static_cast<size_t>(f.in.step)];
  KeyValues segments[] = {(*cache).slice(0, filled * n), rope_sink(layer, s.heads, f)};
  ops::attention(backend_, s.q, segments, wide_attention(s.heads), s.attended);
  add_attended(w.second().o, layout, s, f, {layer, ada.gate, x});
}

// The same for the sink tokens, x [own sink tokens, D] f32: attention among themselves. Fills the layer's sink.
void S2vDit::prefill_self_attention(int64_t layer, DitSelfAttentionGroups& w, ForwardState& f, const Tensor& x) const {
  const KeyValues& sink = f.session->caches.sink.layers[static_cast<size_t>(layer)];
  const TokenLayout layout = f.session->geometry.sink_layout();

  AdaLn ada = ada_ln(layer, 0, f);
  ops::layer_norm(backend_, x, config_.eps, f.session->activations.y.slice(0, x.dim(0)), ada.norm);
  const SelfAttention s = project(w.first(), layout, f);
  write_cache(s.k, sink.k, sink.k_scale);  // before RoPE, which every forward applies with its own positions
  write_cache(s.v, sink.v, sink.v_scale);
  ops::rope(backend_, s.q, f.sink_rope, s.heads, s.q);
  ops::rope(backend_, s.k, f.sink_rope, s.heads, s.k);

  const KeyValues self{s.k, s.v};
  ops::attention(backend_, s.q, {&self, 1}, wide_attention(s.heads), s.attended);
  add_attended(w.second().o, layout, s, f, {layer, ada.gate, x});
}

}  // namespace liveavatar
