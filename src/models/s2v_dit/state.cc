#include "models/s2v_dit/state.h"

#include <algorithm>

#include "core/quantise.h"

namespace liveavatar {

LayerCache::LayerCache(const DitConfig& c, int64_t tokens, DType dtype, Arena& arena) {
  for (int64_t i = 0; i < c.layers; ++i) {
    KeyValues& kv = layers.emplace_back();
    kv.k = arena.tensor({tokens, c.dim}, dtype);
    kv.v = arena.tensor({tokens, c.dim}, dtype);
    if (!is_8bit(dtype)) continue;
    kv.k_scale = arena.tensor({tokens, c.heads}, DType::kF32);
    kv.v_scale = arena.tensor({tokens, c.heads}, DType::kF32);
  }
}

AudioTokens::AudioTokens(const DitConfig& c, const DitGeometry& g, DType dtype, Arena& arena) {
  int64_t tokens = g.block_latents * (c.audio_tokens + 1);
  global = arena.tensor({g.block_latents, c.dim}, DType::kF32);
  local = arena.tensor({tokens, c.dim}, DType::kF32);
  ready.assign(c.audio_inject_layers.size(), false);
  for (size_t j = 0; j < c.audio_inject_layers.size(); ++j) {
    Tensor shift = arena.tensor({g.block_latents, c.dim}, DType::kF32);
    adain.push_back({shift, arena.tensor({g.block_latents, c.dim}, DType::kF32)});
    Tensor k = arena.tensor({tokens, c.dim}, dtype);
    kv.push_back({k, arena.tensor({tokens, c.dim}, dtype)});
  }
}

DitCaches::DitCaches(const DitConfig& c, const DitGeometry& g, DitSteps steps, int64_t actor_count,
                     const DitTypes& types, Arena& arena)
    : sink(c.of_own_heads(g.share), g.sink_tokens(), types.kv, arena),
      prompt(arena.tensor({c.text_len, c.dim}, types.values)),
      text(c, c.text_len, types.values, arena),
      text_ready(static_cast<size_t>(c.layers), false),
      filled_latents(static_cast<size_t>(steps.count), 0) {
  if (!steps.paged_kv)
    kv = std::make_unique<ResidentKvCaches>(KvCacheShape{c.of_own_heads(g.share), g, steps.count, types.kv}, arena);
  for (int64_t i = 0; i < actor_count; ++i) actors.emplace_back(c, g, types.values, arena);
  for (int64_t i = 0; i <= steps.count; ++i) {
    const Tensor embedding = arena.tensor({1, c.dim}, DType::kF32);
    time.push_back({embedding, arena.tensor({kModulationRows, c.dim}, DType::kF32), {}, false});
  }
}

DitSession::DitSession(const DitGeometry& g, DitCaches c, DitActivations a)
    : geometry(g), caches(std::move(c)), activations(std::move(a)) {
  for (ForwardState& forward : activations.forwards) forward.session = this;
}

namespace {

// Those of a layer over the tokens of a block. The sink's run once or twice a video.
std::vector<LinearSize> layer_linears(const DitConfig& c, int64_t tokens, const DitTypes& types) {
  const LinearSize project{tokens, c.dim, c.dim, types.values, types.weights, types.values};
  LinearSize attended{tokens, c.dim, c.dim, types.values, types.weights, DType::kF32};  // added to x
  attended.residual = true;
  LinearSize gated = attended;
  gated.gate = true;
  LinearSize ffn_in{tokens, c.ffn_dim, c.dim, types.values, types.weights, types.values, Activation::kGeluTanh};
  LinearSize ffn_out = gated;
  ffn_out.k = c.ffn_dim;
  return {project, attended, gated, ffn_in, ffn_out};
}

}  // namespace

LargestOps largest_ops(const DitConfig& c, const DitGeometry& g, const DitTypes& types) {
  int64_t tokens = std::max(g.own_block_tokens(), g.own_sink_tokens());
  LargestOps ops;
  ops.attention = {c.heads, c.dim, std::max(g.kv_cache_tokens() + g.sink_tokens(), c.text_len), types.values};
  ops.linear_elements = std::max(tokens * c.ffn_dim, c.text_len * c.dim);
  int64_t widest_patch = c.channels * patch_volume(kPatch4x);
  ops.linear_k = std::max({c.dim, c.ffn_dim, c.text_dim, c.freq_dim, widest_patch});
  for (int64_t in : {c.audio_dim, c.dim / 4, c.dim / 2})  // of the audio encoder; every head is a column
    ops.convs.push_back({in, c.dim, {1, 3, 1}, 1, c.audio_tokens});
  ops.hot_linears = layer_linears(c, g.own_block_tokens(), types);
  return ops;
}

ForwardState::ForwardState(const DitConfig& c, const DitGeometry& g, Arena& arena) {
  int64_t pairs = c.head_dim() / 2;
  x = arena.tensor({std::max(g.own_block_tokens(), g.own_sink_tokens()), c.dim}, DType::kF32);
  block_rope = arena.tensor({g.block_tokens(), pairs, 2}, DType::kF32);
  sink_rope = arena.tensor({g.sink_tokens(), pairs, 2}, DType::kF32);
}

std::span<AudioTokens> ForwardState::audio() const {
  return in.audio.empty() ? std::span(session->caches.actors) : in.audio;
}

DitActivations::DitActivations(const DitConfig& c, const DitGeometry& g, DType dtype, Arena& arena, DitLoad load) {
  for (int64_t i = 0; i < load.in_flight; ++i) forwards.emplace_back(c, g, arena);
  int64_t tokens = std::max(g.own_block_tokens(), g.own_sink_tokens()), block = g.own_block_tokens();
  const int64_t own_width = g.share.of(c.heads).count * c.head_dim(), head_width = c.channels * patch_volume(kPatch);
  y = arena.tensor({tokens, c.dim}, dtype);
  q = arena.tensor({tokens, c.dim}, dtype);
  k = arena.tensor({tokens, c.dim}, dtype);
  v = arena.tensor({tokens, c.dim}, dtype);
  attended = arena.tensor({tokens, c.dim}, dtype);
  hidden = arena.tensor({tokens, c.ffn_dim}, dtype);
  motion_part = arena.tensor({c.channels, kMotion4x, g.latent_height, g.latent_width}, DType::kF32);
  int64_t widest = std::max({g.block_tokens() * patch_volume(kPatch), g.tokens_2x() * patch_volume(kPatch2x),
                             g.tokens_4x() * patch_volume(kPatch4x)});
  patches = arena.tensor({widest, c.channels}, DType::kF32);
  sink_k = arena.tensor({g.sink_tokens(), own_width}, dtype);
  audio_sum = arena.tensor({block, c.dim}, DType::kF32);
  if (load.actors > 1) actor_gate = arena.tensor({block, c.dim}, DType::kF32);
  zero_pose = arena.tensor({c.channels, g.block_latents, g.latent_height, g.latent_width}, DType::kF32);
  sinusoid = arena.tensor({1, c.freq_dim}, DType::kF32);
  time_hidden = arena.tensor({1, c.dim}, DType::kF32);
  time_act = arena.tensor({1, c.dim}, DType::kF32);
  modulation = arena.tensor({6, c.dim}, DType::kF32);
  head_modulation = arena.tensor({2, c.dim}, DType::kF32);
  head = arena.tensor({g.block_tokens(), head_width}, DType::kF32);
  text_rows = arena.tensor({c.text_len, c.text_dim}, DType::kF32);
  text_hidden = arena.tensor({c.text_len, c.dim}, dtype);
  audio_mix = arena.tensor({kAudioPad + kAudioColumns, c.audio_dim}, DType::kF32);
  audio_1 = arena.tensor({kAudioPad + kAudioColumns, c.audio_tokens, c.dim / 4}, DType::kF32);
  audio_2 = arena.tensor({kAudioPad + kAudioHalfColumns, c.audio_tokens, c.dim / 2}, DType::kF32);
  audio_3 = arena.tensor({kAudioLatents, c.audio_tokens, c.dim}, DType::kF32);
  audio_global = arena.tensor({g.block_latents, c.dim}, DType::kF32);
  if (g.share.whole()) return;
  const int64_t all = std::max(g.block_tokens(), g.sink_tokens());
  heads = {arena.tensor({all, own_width}, dtype), arena.tensor({all, own_width}, dtype),
           arena.tensor({all, own_width}, dtype), arena.tensor({all, own_width}, dtype)};
  own_head = arena.tensor({block, head_width}, DType::kF32);
  exchange = ExchangeBuffers(c, g, dtype, arena);
}

}  // namespace liveavatar
