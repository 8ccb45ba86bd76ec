#include "models/s2v_dit/s2v_dit.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/s2v_dit/positions.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace liveavatar {

namespace {

Modulation modulate(const Tensor& modulation, int64_t shift_row) {
  return {modulation.slice(shift_row, 1), modulation.slice(shift_row + 1, 1)};
}

// Latent frames [first, first + count) of motion [C, 19, H, W] -> [C, count, H, W].
Tensor newest_latents(const Tensor& motion, int64_t first, int64_t count, DitActivations& a) {
  int64_t channels = motion.dim(0), plane = motion.dim(2) * motion.dim(3);
  Tensor part(a.motion_part.data, {channels, count, motion.dim(2), motion.dim(3)}, DType::kF32);
  for (int64_t c = 0; c < channels; ++c) {
    std::memcpy(part.f32() + c * count * plane, motion.f32() + (c * motion.dim(1) + first) * plane,
                static_cast<size_t>(count * plane) * sizeof(float));
  }
  return part;
}

float attention_scale(const DitConfig& config) { return 1.0f / std::sqrt(static_cast<float>(config.head_dim())); }

}  // namespace

Expected<std::unique_ptr<S2vDit>> S2vDit::load(const DitConfig& config, const TensorSource& source, Backend& backend,
                                               Budget& budget, DitTypes types) {
  std::unique_ptr<S2vDit> dit(new S2vDit(config, backend, types));
  WeightLoader loader(source, backend, budget, Tenant::kWeights, types.values);
  loader.set_large_dtype(types.weights);
  LA_ASSIGN_OR_RETURN(dit->weights_, load_dit_weights(config, loader));
  return dit;
}

void S2vDit::observe_product(const char* group, int64_t i, const char* part, const Tensor& x, const LinearWeight& w,
                             const Tensor& scratch) {
  if (!observer_) return;
  ops::linear(backend_, x, w, scratch);
  observe(group, i, part, scratch);
}

// Sinusoid of the timestep -> embedding e [1, D] -> six modulation rows e0 [6, D].
void S2vDit::encode_time(double timestep, DitActivations& a) {
  int64_t half = config_.freq_dim / 2;
  for (int64_t k = 0; k < half; ++k) {
    double angle = timestep * std::pow(10000.0, -double(k) / double(half));
    a.sinusoid.f32()[k] = static_cast<float>(std::cos(angle));
    a.sinusoid.f32()[half + k] = static_cast<float>(std::sin(angle));
  }
  ops::linear(backend_, a.sinusoid, weights_.time_in, a.time_hidden, {.activation = Activation::kSilu});
  ops::linear(backend_, a.time_hidden, weights_.time_out, a.time);
  ops::activate(backend_, a.time, Activation::kSilu, a.time_act);
  ops::linear(backend_, a.time_act, weights_.time_project, a.time_projected.reshape({1, 6 * config_.dim}));
}

// tokens [n, D] = patches of latents through w, plus the row of `kind` (0 noisy, 1 reference, 2 motion).
void S2vDit::embed(const Tensor& latents, const std::array<int64_t, 3>& patch, const LinearWeight& w, int64_t kind,
                   const Tensor& tokens, DitActivations& a) {
  Tensor patches(a.patches.data, {tokens.dim(0), w.k}, DType::kF32);
  LA_CHECK(patches.elements() <= a.patches.elements());
  ops::patchify(backend_, latents, patch, patches);
  ops::linear(backend_, patches, w, tokens);
  ops::add(backend_, tokens, weights_.kind.slice(kind, 1).reshape({config_.dim}), tokens);
}

void S2vDit::encode_text(const Tensor& rows, DitActivations& a, DitCaches& caches) {
  LA_CHECK(rows.dim(0) <= config_.text_len && rows.dim(1) == config_.text_dim);
  std::memset(a.text_rows.data, 0, a.text_rows.bytes());  // slots behind the prompt are zero rows, and are attended to
  std::memcpy(a.text_rows.data, rows.data, rows.bytes());
  ops::linear(backend_, a.text_rows, weights_.text_in, a.text_hidden, {.activation = Activation::kGeluTanh});
  ops::linear(backend_, a.text_hidden, weights_.text_out, a.text);
  if (observer_) observer_("text_embedding", a.text);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const DitAttentionWeights& w = layer_weights(i).cross_attention;
    const KeyValues& cache = caches.text.layers[static_cast<size_t>(i)];
    ops::linear(backend_, a.text, w.k, cache.k);
    ops::rms_norm(backend_, cache.k, config_.eps, w.norm_k, cache.k);
    ops::linear(backend_, a.text, w.v, cache.v);
  }
}

// q and k normalised over the whole width, before the heads split.
void S2vDit::project(const DitAttentionWeights& w, const Tensor& y, const Tensor& q, const Tensor& k, const Tensor& v) {
  ops::linear(backend_, y, w.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.norm_q, q);
  ops::linear(backend_, y, w.k, k);
  ops::rms_norm(backend_, k, config_.eps, w.norm_k, k);
  ops::linear(backend_, y, w.v, v);
}

// Keys or values into a cache, rounded to what it holds.
void S2vDit::keep(const Tensor& x, const Tensor& cache, const Tensor& scale) {
  if (scale.empty()) return ops::copy(backend_, x, cache);
  ops::quantise(backend_, x, cache, scale);
}

// x [T, D] f32 goes through one block; `attend` decides what self-attention looks at.
template <typename SelfAttention>
void S2vDit::transformer_block(int64_t i, const Tensor& x, DitActivations& a, DitCaches& caches,
                               const SelfAttention& attend) {
  const DitLayerWeights& w = layer_weights(i);
  int64_t tokens = x.dim(0);
  Tensor y = a.y.slice(0, tokens), q = a.q.slice(0, tokens), k = a.k.slice(0, tokens), v = a.v.slice(0, tokens);
  Tensor attended = a.attended.slice(0, tokens), hidden = a.hidden.slice(0, tokens);
  ops::add(backend_, w.modulation, a.time_projected, a.modulation);  // shift1, scale1, gate1, shift2, scale2, gate2

  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.modulation, 0));
  project(w.self_attention, y, q, k, v);
  attend(q, k, v, attended);
  observe_product("block", i, ".self_attn", attended, w.self_attention.o, q);
  ops::linear(backend_, attended, w.self_attention.o, x, {.gate = a.modulation.slice(2, 1), .residual = x});

  ops::layer_norm_affine(backend_, x, config_.eps, w.norm3_weight, w.norm3_bias, y);
  ops::linear(backend_, y, w.cross_attention.q, q);
  ops::rms_norm(backend_, q, config_.eps, w.cross_attention.norm_q, q);
  const KeyValues text = caches.text.layers[static_cast<size_t>(i)];
  ops::attention(backend_, q, {&text, 1}, {.heads = config_.heads, .scale = attention_scale(config_)}, attended);
  observe_product("block", i, ".cross_attn", attended, w.cross_attention.o, q);
  ops::linear(backend_, attended, w.cross_attention.o, x, {.residual = x});

  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.modulation, 3));
  ops::linear(backend_, y, w.ffn_in, hidden, {.activation = Activation::kGeluTanh});
  observe_product("block", i, ".ffn", hidden, w.ffn_out, q);
  ops::linear(backend_, hidden, w.ffn_out, x, {.gate = a.modulation.slice(5, 1), .residual = x});
}

void S2vDit::prefill(const DitGeometry& g, const Tensor& reference, const Tensor& motion, DitActivations& a,
                     DitCaches& caches) {
  Tensor x = a.x.slice(0, g.cond_tokens());
  int64_t n = g.latent_tokens();
  embed(reference, kPatch, weights_.patch, 1, x.slice(0, n), a);
  // Newest motion latents first: one at full resolution, two at half, sixteen at a quarter.
  embed(newest_latents(motion, 18, 1, a), kPatch, weights_.pack_1x, 2, x.slice(n, n), a);
  embed(newest_latents(motion, 16, 2, a), kPatch2x, weights_.pack_2x, 2, x.slice(2 * n, g.tokens_2x()), a);
  embed(newest_latents(motion, 0, 16, a), kPatch4x, weights_.pack_4x, 2, x.slice(2 * n + g.tokens_2x(), g.tokens_4x()),
        a);
  encode_time(0, a);
  fill_cond_positions(config_, g, 0, a.cond_turns);
  for (int64_t i = 0; i < config_.layers; ++i) {
    const KeyValues& cache = caches.cond.layers[static_cast<size_t>(i)];
    transformer_block(i, x, a, caches, [&](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
      keep(k, cache.k, cache.k_scale);
      keep(v, cache.v, cache.v_scale);
      ops::rope(backend_, q, a.cond_turns, config_.heads, q);
      ops::rope(backend_, k, a.cond_turns, config_.heads, k);
      const KeyValues self{k, v};
      ops::attention(backend_, q, {&self, 1}, {.heads = config_.heads, .scale = attention_scale(config_)}, out);
    });
  }
}

// The sink moves with the video: its keys are turned afresh.
KeyValues S2vDit::turned_sink(const KeyValues& cond, DitActivations& a) {
  bool plain = cond.k_scale.empty();
  if (!plain) ops::dequantise(backend_, cond.k, cond.k_scale, a.cond_k);
  ops::rope(backend_, plain ? cond.k : a.cond_k, a.cond_turns, config_.heads, a.cond_k);
  return {a.cond_k, cond.v, Tensor(), cond.v_scale};
}

void S2vDit::begin(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches) {
  Tensor x = a.x.slice(0, g.block_tokens());
  if (in.pose.empty()) std::memset(a.zero_pose.data, 0, a.zero_pose.bytes());
  embed(in.latents, kPatch, weights_.patch, 0, x, a);
  Tensor pose_patches(a.patches.data, {g.block_tokens(), weights_.pose_patch.k}, DType::kF32);
  ops::patchify(backend_, in.pose.empty() ? a.zero_pose : in.pose, kPatch, pose_patches);
  ops::linear(backend_, pose_patches, weights_.pose_patch, x, {.residual = x});
  encode_time(in.timestep, a);
  if (observer_) observer_("time_embedding", a.time);
  if (observer_) observer_("time_projection", a.time_projected);
  fill_block_positions(config_, g, in.start_latent, a.block_turns);
  fill_cond_positions(config_, g, sink_shift(in.start_latent, in.relative_dist), a.cond_turns);
  RingCache& ring = caches.rings[static_cast<size_t>(in.step)];
  int64_t slot = in.start_latent % g.clip_latents;
  LA_CHECK(slot + g.block_latents <= g.clip_latents);
  ring.filled_latents = std::max(ring.filled_latents, slot + g.block_latents);
}

void S2vDit::layer(int64_t i, const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches) {
  Tensor x = a.x.slice(0, g.block_tokens());
  const RingCache& ring = caches.rings[static_cast<size_t>(in.step)];
  const KeyValues& kept = ring.layers[static_cast<size_t>(i)];
  const KeyValues& cond = caches.cond.layers[static_cast<size_t>(i)];
  int64_t n = g.latent_tokens(), begin = in.start_latent % g.clip_latents * n, valid = ring.filled_latents * n;
  transformer_block(i, x, a, caches, [&](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out) {
    ops::rope(backend_, q, a.block_turns, config_.heads, q);
    const KeyValues slot = kept.slice(begin, k.dim(0));
    Tensor turned = slot.k_scale.empty() ? slot.k : k;  // into the ring, or to be rounded to it
    ops::rope(backend_, k, a.block_turns, config_.heads, turned);
    if (turned.data != slot.k.data) keep(turned, slot.k, slot.k_scale);
    keep(v, slot.v, slot.v_scale);
    const KeyValues segments[] = {kept.slice(0, valid), turned_sink(cond, a)};
    ops::attention(backend_, q, segments, {.heads = config_.heads, .scale = attention_scale(config_)}, out);
  });
  observe("block", i, "", x);
  std::span<const AudioTokens> sound = in.sound.empty() ? caches.actors : in.sound;
  if (int64_t j = config_.injector_of(i); j >= 0) inject_audio(j, g, sound, a, caches);
}

// x += for every actor: mask * cross-attention of each latent frame's tokens to that frame's sound.
void S2vDit::inject_audio(int64_t j, const DitGeometry& g, std::span<const AudioTokens> sound, DitActivations& a,
                          DitCaches& caches) {
  const AudioInjectorWeights& w = weights_.injectors[static_cast<size_t>(j)];
  int64_t tokens = g.block_tokens(), n = g.latent_tokens(), keys = config_.audio_tokens + 1;
  Tensor x = a.x.slice(0, tokens), y = a.y.slice(0, tokens), q = a.q.slice(0, tokens),
         attended = a.attended.slice(0, tokens);
  bool many = sound.size() > 1;
  for (size_t actor = 0; actor < sound.size(); ++actor) {
    const KeyValues& kv = sound[actor].injected[static_cast<size_t>(j)];
    ops::layer_norm(backend_, x, 1e-5f, y, sound[actor].adain[static_cast<size_t>(j)]);
    observe("adain", j, "", y);
    ops::linear(backend_, y, w.attention.q, q);
    ops::rms_norm(backend_, q, config_.eps, w.attention.norm_q, q);
    for (int64_t f = 0; f < g.block_latents; ++f) {
      const KeyValues frame{kv.k.slice(f * keys, keys), kv.v.slice(f * keys, keys)};
      ops::attention(backend_, q.slice(f * n, n), {&frame, 1},
                     {.heads = config_.heads, .scale = attention_scale(config_)}, attended.slice(f * n, n));
    }
    observe_product("audio_injector", j, "", attended, w.attention.o, q);
    // Every actor reads the same x, so with several the sum is built aside.
    Epilogue epilogue;
    if (many && caches.masked)
      epilogue.gate = caches.actor_masks.slice(int64_t(actor), 1).reshape({tokens, config_.dim});
    if (!many || actor > 0) epilogue.residual = many ? a.injected : x;
    ops::linear(backend_, attended, w.attention.o, many ? a.injected : x, epilogue);
  }
  if (many) ops::add(backend_, x, a.injected, x);
}

void S2vDit::end(const DitGeometry& g, DitActivations& a, const Tensor& velocity) {
  Tensor x = a.x.slice(0, g.block_tokens()), y = a.y.slice(0, g.block_tokens());
  ops::add(backend_, weights_.head_modulation, a.time.reshape({config_.dim}), a.head_modulation);
  ops::layer_norm(backend_, x, config_.eps, y, modulate(a.head_modulation, 0));
  ops::linear(backend_, y, weights_.head, a.head);
  if (observer_) observer_("head", a.head);
  ops::unpatchify(backend_, a.head, kPatch, velocity);
}

void S2vDit::forward(const DitGeometry& g, const BlockInputs& in, DitActivations& a, DitCaches& caches,
                     const Tensor& velocity) {
  begin(g, in, a, caches);
  for (int64_t i = 0; i < config_.layers; ++i) layer(i, g, in, a, caches);
  end(g, a, velocity);
}

}  // namespace liveavatar
