#include "models/s2v_dit/weights.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

LinearWeight load_large(WeightVisitor& visitor, const std::string& name, int64_t n, int64_t k) {
  return visitor.linear(name, n, k, visitor.types().large);
}

DitTimeWeights load_time(WeightVisitor& visitor, int64_t row, int64_t dim) {
  return {visitor.linear_rows("time_projection.1", {kModulationRows * dim, dim}, row * dim, dim)};
}

DitSelfAttentionWeights load_self_attention(WeightVisitor& visitor, const std::string& name, int64_t dim) {
  DitSelfAttentionWeights w;
  w.q = load_large(visitor, name + ".q", dim, dim);
  w.k = load_large(visitor, name + ".k", dim, dim);
  w.v = load_large(visitor, name + ".v", dim, dim);
  w.norm_q = visitor.vector(name + ".norm_q.weight", {dim});
  w.norm_k = visitor.vector(name + ".norm_k.weight", {dim});
  return w;
}

template <typename Weights>
Weights load_keys(WeightVisitor& visitor, const std::string& name, int64_t dim) {
  Weights w;
  w.k = load_large(visitor, name + ".k", dim, dim);
  w.v = load_large(visitor, name + ".v", dim, dim);
  w.norm_k = visitor.vector(name + ".norm_k.weight", {dim});
  return w;
}

DitCrossAttentionWeights load_cross_attention(WeightVisitor& visitor, const std::string& layer, int64_t dim) {
  DitCrossAttentionWeights w;
  w.norm_weight = visitor.vector(layer + ".norm3.weight", {dim});
  w.norm_bias = visitor.vector(layer + ".norm3.bias", {dim});
  w.q = load_large(visitor, layer + ".cross_attn.q", dim, dim);
  w.o = load_large(visitor, layer + ".cross_attn.o", dim, dim);
  w.norm_q = visitor.vector(layer + ".cross_attn.norm_q.weight", {dim});
  return w;
}

DitAudioAttentionWeights load_audio_attention(WeightVisitor& visitor, const std::string& name, int64_t dim) {
  DitAudioAttentionWeights w;
  w.q = load_large(visitor, name + ".q", dim, dim);
  w.o = load_large(visitor, name + ".o", dim, dim);
  w.norm_q = visitor.vector(name + ".norm_q.weight", {dim});
  return w;
}

// SiLU(w) / sum SiLU(w) over the audio encoder's hidden states.
Tensor load_layer_shares(WeightVisitor& visitor, const DitConfig& c) {
  Tensor weights = visitor.read_f32("casual_audio_encoder.weights", {1, c.audio_layers, 1, 1});
  std::vector<float> shares(static_cast<size_t>(c.audio_layers), 1.0f);
  if (!weights.empty()) std::copy_n(weights.host<float>(), c.audio_layers, shares.begin());
  double sum = 0;
  for (float& s : shares) {
    s = s / (1 + std::exp(-s));
    sum += s;
  }
  for (float& s : shares) s = static_cast<float>(s / sum);
  return visitor.keep(shares, {c.audio_layers});
}

AudioEncoderWeights load_audio_encoder(WeightVisitor& visitor, const DitConfig& c) {
  const std::string name = "casual_audio_encoder.encoder.";  // the spelling of the checkpoint
  AudioEncoderWeights w;
  w.layer_shares = load_layer_shares(visitor, c);
  const std::array<int64_t, 3> kernel{1, 3, 1};  // rows are time, columns are the local heads
  int64_t quarter = c.dim / 4, half = c.dim / 2;
  w.conv1_local = visitor.conv(name + "conv1_local.conv", quarter * c.audio_tokens, c.audio_dim, kernel);
  w.conv1_global = visitor.conv(name + "conv1_global.conv", quarter, c.audio_dim, kernel);
  w.conv2 = visitor.conv(name + "conv2.conv", half, quarter, kernel);
  w.conv3 = visitor.conv(name + "conv3.conv", c.dim, half, kernel);
  w.final_linear = visitor.linear(name + "final_linear", c.dim, c.dim);
  w.padding_token = visitor.vector(name + "padding_tokens", {1, c.dim});
  return w;
}

}  // namespace

DitReading reading_of(DitPart part) {
  switch (part) {
    case DitPart::kTime:
      return DitReading::kNewTimestep;
    case DitPart::kPromptIn:
    case DitPart::kPromptOut:
    case DitPart::kTextKeys:
      return DitReading::kNewPrompt;
    case DitPart::kAudioKeys:
    case DitPart::kAudioShift:
    case DitPart::kAudioScale:
      return DitReading::kNewBlock;
    case DitPart::kSelfAttention:
    case DitPart::kSelfOutput:
    case DitPart::kCrossAttention:
    case DitPart::kFfnIn:
    case DitPart::kFfnOut:
    case DitPart::kAudioAttention:
      return DitReading::kAlways;
  }
  LA_CHECK(false);
}

std::vector<DitWeightGroup> dit_weight_groups(const DitConfig& c) {
  constexpr DitPart kLayer[] = {DitPart::kSelfAttention,  DitPart::kSelfOutput, DitPart::kTextKeys,
                                DitPart::kCrossAttention, DitPart::kFfnIn,      DitPart::kFfnOut};
  constexpr DitPart kAudio[] = {DitPart::kAudioKeys, DitPart::kAudioShift, DitPart::kAudioScale,
                                DitPart::kAudioAttention};
  std::vector<DitWeightGroup> groups;
  for (int64_t row = 0; row < kModulationRows; ++row) groups.push_back({DitPart::kTime, row});
  for (const DitPart part : {DitPart::kPromptIn, DitPart::kPromptOut}) groups.push_back({part, 0});
  for (int64_t i = 0; i < c.layers; ++i) {
    for (const DitPart part : kLayer) groups.push_back({part, i});
    if (c.audio_attention_of(i) < 0) continue;
    for (const DitPart part : kAudio) groups.push_back({part, i});
  }
  return groups;
}

DitGroupWeights load_dit_group(const DitConfig& c, const DitWeightGroup& group, WeightVisitor& visitor) {
  const std::string layer = "blocks." + std::to_string(group.layer), ffn = layer + ".ffn";
  const std::string j = std::to_string(c.audio_attention_of(group.layer)), audio = "audio_injector.injector." + j,
                    adain = "audio_injector.injector_adain_layers." + j + ".linear";
  const Shape shift_and_scale{2 * c.dim, c.dim};
  switch (group.part) {
    case DitPart::kTime:
      return load_time(visitor, group.layer, c.dim);
    case DitPart::kPromptIn:
      return DitPromptInWeights{visitor.linear("text_embedding.0", c.dim, c.text_dim)};
    case DitPart::kPromptOut:
      return DitPromptOutWeights{visitor.linear("text_embedding.2", c.dim, c.dim)};
    case DitPart::kSelfAttention:
      return load_self_attention(visitor, layer + ".self_attn", c.dim);
    case DitPart::kSelfOutput:
      return DitSelfOutputWeights{load_large(visitor, layer + ".self_attn.o", c.dim, c.dim)};
    case DitPart::kTextKeys:
      return load_keys<DitTextKeyWeights>(visitor, layer + ".cross_attn", c.dim);
    case DitPart::kCrossAttention:
      return load_cross_attention(visitor, layer, c.dim);
    case DitPart::kFfnIn:
      return DitFfnInWeights{load_large(visitor, ffn + ".0", c.ffn_dim, c.dim)};
    case DitPart::kFfnOut:
      return DitFfnOutWeights{load_large(visitor, ffn + ".2", c.dim, c.ffn_dim)};
    case DitPart::kAudioKeys:
      return load_keys<DitAudioKeyWeights>(visitor, audio, c.dim);
    case DitPart::kAudioShift:
      return DitAudioShiftWeights{visitor.linear_rows(adain, shift_and_scale, 0, c.dim)};
    case DitPart::kAudioScale:
      return DitAudioScaleWeights{visitor.linear_rows(adain, shift_and_scale, c.dim, c.dim)};
    case DitPart::kAudioAttention:
      return load_audio_attention(visitor, audio, c.dim);
  }
  LA_CHECK(false);
}

DitCommonWeights load_dit_common(const DitConfig& c, WeightVisitor& visitor) {
  DitCommonWeights w;
  w.patch = visitor.linear("patch_embedding", c.dim, c.channels * patch_volume(kPatch));
  w.pose_patch = visitor.linear("cond_encoder", c.dim, c.channels * patch_volume(kPatch));
  w.pack_1x = visitor.linear("frame_packer.proj", c.dim, c.channels * patch_volume(kPatch));
  w.pack_2x = visitor.linear("frame_packer.proj_2x", c.dim, c.channels * patch_volume(kPatch2x));
  w.pack_4x = visitor.linear("frame_packer.proj_4x", c.dim, c.channels * patch_volume(kPatch4x));
  w.time_in = visitor.linear("time_embedding.0", c.dim, c.freq_dim);
  w.time_out = visitor.linear("time_embedding.2", c.dim, c.dim);
  w.token_type = visitor.vector("trainable_cond_mask.weight", {3, c.dim});
  for (int64_t i = 0; i < c.layers && visitor.status().ok(); ++i)
    w.modulation.push_back(visitor.vector("blocks." + std::to_string(i) + ".modulation", {6, c.dim}));
  w.audio = load_audio_encoder(visitor, c);
  w.head = visitor.linear("head.head", c.channels * patch_volume(kPatch), c.dim);
  w.head_modulation = visitor.vector("head.modulation", {2, c.dim});
  return w;
}

std::map<std::string, Shape> dit_tensors(const DitConfig& c, const Backend& backend) {
  WeightViews views(backend, DType::kBF16);
  load_dit_common(c, views);
  for (const DitWeightGroup& group : dit_weight_groups(c)) load_dit_group(c, group, views);
  return views.asked();
}

Expected<DitWeights> load_dit_weights(const DitConfig& c, WeightAllocator& loader) {
  DitWeights w;
  w.common = load_dit_common(c, loader);
  for (const DitWeightGroup& group : dit_weight_groups(c)) {
    if (loader.status().ok()) w.groups.push_back(load_dit_group(c, group, loader));
  }
  LA_RETURN_IF_ERROR(loader.status());
  w.buffers = loader.take_buffers();
  return w;
}

}  // namespace liveavatar
