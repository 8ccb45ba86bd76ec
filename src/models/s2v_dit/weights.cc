#include "models/s2v_dit/weights.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

DitAttentionWeights load_attention(WeightVisitor& visitor, const std::string& name, int64_t dim) {
  DitAttentionWeights w;
  w.q = visitor.linear(name + ".q", dim, dim, visitor.types().large);
  w.k = visitor.linear(name + ".k", dim, dim, visitor.types().large);
  w.v = visitor.linear(name + ".v", dim, dim, visitor.types().large);
  w.o = visitor.linear(name + ".o", dim, dim, visitor.types().large);
  w.norm_q = visitor.vector(name + ".norm_q.weight", {dim});
  w.norm_k = visitor.vector(name + ".norm_k.weight", {dim});
  return w;
}

DitCrossAttentionWeights load_cross_attention(WeightVisitor& visitor, const std::string& layer, int64_t dim) {
  DitCrossAttentionWeights w;
  w.norm_weight = visitor.vector(layer + ".norm3.weight", {dim});
  w.norm_bias = visitor.vector(layer + ".norm3.bias", {dim});
  w.attention = load_attention(visitor, layer + ".cross_attn", dim);
  return w;
}

DitFfnWeights load_ffn(WeightVisitor& visitor, const std::string& name, const DitConfig& c) {
  DitFfnWeights w;
  w.in = visitor.linear(name + ".0", c.ffn_dim, c.dim, visitor.types().large);
  w.out = visitor.linear(name + ".2", c.dim, c.ffn_dim, visitor.types().large);
  return w;
}

DitAudioAttentionWeights load_audio_attention(WeightVisitor& visitor, int64_t index, int64_t dim) {
  const std::string j = std::to_string(index), adain = "audio_injector.injector_adain_layers." + j + ".linear";
  const Shape both{2 * dim, dim};  // first half: shift
  DitAudioAttentionWeights w;
  w.attention = load_attention(visitor, "audio_injector.injector." + j, dim);
  w.adain_shift = visitor.linear_rows(adain, both, 0, dim);
  w.adain_scale = visitor.linear_rows(adain, both, dim, dim);
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

std::vector<DitWeightGroup> dit_weight_groups(const DitConfig& c) {
  std::vector<DitWeightGroup> groups;
  for (int64_t i = 0; i < c.layers; ++i) {
    for (DitPart part : {DitPart::kSelfAttention, DitPart::kCrossAttention, DitPart::kFfn}) groups.push_back({part, i});
    if (c.audio_attention_of(i) >= 0) groups.push_back({DitPart::kAudioAttention, i});
  }
  return groups;
}

DitGroupWeights load_dit_group(const DitConfig& c, const DitWeightGroup& group, WeightVisitor& visitor) {
  const std::string layer = "blocks." + std::to_string(group.layer);
  switch (group.part) {
    case DitPart::kSelfAttention:
      return DitSelfAttentionWeights{load_attention(visitor, layer + ".self_attn", c.dim)};
    case DitPart::kCrossAttention:
      return load_cross_attention(visitor, layer, c.dim);
    case DitPart::kFfn:
      return load_ffn(visitor, layer + ".ffn", c);
    case DitPart::kAudioAttention:
      return load_audio_attention(visitor, c.audio_attention_of(group.layer), c.dim);
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
  w.text_in = visitor.linear("text_embedding.0", c.dim, c.text_dim);
  w.text_out = visitor.linear("text_embedding.2", c.dim, c.dim);
  w.time_in = visitor.linear("time_embedding.0", c.dim, c.freq_dim);
  w.time_out = visitor.linear("time_embedding.2", c.dim, c.dim);
  w.time_project = visitor.linear("time_projection.1", 6 * c.dim, c.dim);
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
