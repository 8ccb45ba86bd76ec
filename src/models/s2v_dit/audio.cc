// The causal audio encoder: 12 feature columns of a block -> 3 x (1 global + 4 local + 1 padding) tokens, and their
// keys and values for the audio cross-attention. The block's first column replaces the 73 motion frames before it.
#include <algorithm>

#include "models/s2v_dit/s2v_dit.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace liveavatar {
namespace {

// Replicate padding: copies row kAudioPad of t to the kAudioPad rows before it.
void replicate_front(Backend& backend, const Tensor& t) {
  for (int64_t i = 0; i < kAudioPad; ++i) ops::copy(backend, t.slice(kAudioPad, 1), t.slice(i, 1));
}

// [T, heads, C] as the image [1, T, heads, C] for ops::conv.
Tensor as_image(const Tensor& t) { return t.reshape({1, t.dim(0), t.dim(1), t.dim(2)}); }

// The first part of a larger buffer as a tensor [rows, heads, C].
Tensor front(const Tensor& buffer, int64_t rows, int64_t heads) { return buffer.front({rows, heads, buffer.dim(2)}); }

// Weighted mean over the hidden states [layers, C, 12], transposed to [columns, C]: the first column repeated for two
// padding rows and the motion frames, then the 12 columns.
void mix_states(std::span<const float> shares, std::span<const float> states, std::span<float> mix, int64_t width) {
  const int64_t lead = kAudioPad + kMotionFrames, layers = static_cast<int64_t>(shares.size());
  for (int64_t t = 0; t < kBlockColumns; ++t) {
    float* row = mix.data() + (lead + t) * width;
    for (int64_t c = 0; c < width; ++c) {
      float sum = 0;
      for (int64_t l = 0; l < layers; ++l)
        sum += shares[static_cast<size_t>(l)] * states[static_cast<size_t>((l * width + c) * kBlockColumns + t)];
      row[c] = sum;
    }
  }
  for (int64_t t = 0; t < lead; ++t) std::copy_n(mix.data() + lead * width, width, mix.data() + t * width);
}

}  // namespace

// Convolution, LayerNorm, SiLU three times -> out [22, heads, D].
void S2vDit::audio_branch(const ConvWeight& first, int64_t heads, DitActivations& a, Tensor& out) const {
  auto stage = [&](const Tensor& in, const ConvWeight& w, int64_t stride, const Tensor& to) {
    ops::conv(backend_, in, w, {.stride = {1, stride, 1}}, to);
  };
  auto norm_silu = [&](const Tensor& t) {
    ops::layer_norm(backend_, t, 1e-6f, t);
    ops::activate(backend_, t, Activation::kSilu, t);
  };
  Tensor one = front(a.audio_1, kAudioPad + kAudioColumns, heads);
  Tensor two = front(a.audio_2, kAudioPad + kAudioHalfColumns, heads);
  Tensor mix = a.audio_mix.reshape({1, kAudioPad + kAudioColumns, 1, a.audio_mix.dim(1)});
  Tensor one_body = one.slice(kAudioPad, kAudioColumns), two_body = two.slice(kAudioPad, kAudioHalfColumns);
  stage(mix, first, 1, one_body.reshape({1, kAudioColumns, 1, first.out_channels}));
  norm_silu(one_body);
  replicate_front(backend_, one);
  stage(as_image(one), weights_.common.audio.conv2, 2, as_image(two_body));
  norm_silu(two_body);
  replicate_front(backend_, two);
  out = front(a.audio_3, kAudioLatents, heads);
  stage(as_image(two), weights_.common.audio.conv3, 2, as_image(out));
  norm_silu(out);
}

void S2vDit::encode_audio(const Tensor& features, DitSession& session, AudioTokens& tokens) const {
  DitActivations& a = session.activations;
  LA_CHECK(features.shape == Shape({config_.audio_layers, config_.audio_dim, kBlockColumns}));
  mix_states(layer_shares_, Download(backend_, features).values(), Upload(backend_, a.audio_mix).values(),
             config_.audio_dim);
  int64_t latents = a.audio_global.dim(0), skip = kAudioLatents - latents, keys = config_.audio_tokens + 1;
  Tensor out;
  audio_branch(weights_.common.audio.conv1_global, 1, a, out);
  ops::linear(backend_, out.slice(skip, latents).reshape({latents, config_.dim}), weights_.common.audio.final_linear,
              a.audio_global);
  ops::activate(backend_, a.audio_global, Activation::kSilu, tokens.global);
  audio_branch(weights_.common.audio.conv1_local, config_.audio_tokens, a, out);
  for (int64_t f = 0; f < latents; ++f) {
    ops::copy(backend_, out.slice(skip + f, 1), tokens.local.slice(f * keys, config_.audio_tokens));
    ops::copy(backend_, weights_.common.audio.padding_token, tokens.local.slice((f + 1) * keys - 1, 1));
  }
  observe(session, "audio_global", a.audio_global);
  observe(session, "audio_tokens", tokens.local);
  std::fill(tokens.ready.begin(), tokens.ready.end(), false);
}

// Keys, values and AdaIN of new blocks' audio for this layer.
void S2vDit::project_audio(int64_t layer, DitWeightGroups& weights, std::span<ForwardState* const> forwards) const {
  const auto j = static_cast<size_t>(config_.audio_attention_of(layer));
  std::vector<AudioTokens*> missing;
  for (ForwardState* f : forwards)
    for (AudioTokens& actor : f->audio())
      if (!actor.ready[j]) missing.push_back(&actor);
  if (missing.empty()) return;
  {
    const DitWeightGuard group = acquire<DitAudioKeyWeights>(weights, layer);
    for (AudioTokens* tokens : missing) project_keys(*group, tokens->local, tokens->kv[j]);
  }
  {
    const DitWeightGuard group = acquire<DitAudioShiftWeights>(weights, layer);
    for (AudioTokens* tokens : missing) ops::linear(backend_, tokens->global, group->shift, tokens->adain[j].shift);
  }
  const DitWeightGuard group = acquire<DitAudioScaleWeights>(weights, layer);
  for (AudioTokens* tokens : missing) {
    ops::linear(backend_, tokens->global, group->scale, tokens->adain[j].scale);
    tokens->ready[j] = true;
  }
}

// An actor's mask, one value for each token, as a gate [own tokens, D].
Tensor S2vDit::actor_gate(const Tensor& mask, DitSession& session) const {
  const TokenLayout layout = session.geometry.block_layout();
  const RankShare& share = session.geometry.share;
  const Tensor gate = session.activations.actor_gate, all = mask.reshape({layout.rows()});
  for_each_range(layout, share, share.index, {0, layout.rows()}, [&](int64_t row, int64_t own, int64_t rows) {
    ops::repeat_columns(backend_, all.slice(row, rows), gate.slice(own, rows));
  });
  return gate;
}

}  // namespace liveavatar
