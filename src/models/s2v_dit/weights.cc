#include "models/s2v_dit/weights.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

int64_t volume(const std::array<int64_t, 3>& patch) { return patch[0] * patch[1] * patch[2]; }

DitAttentionWeights load_attention(WeightLoader& loader, const std::string& name, int64_t dim) {
  DitAttentionWeights w;
  w.q = loader.large_linear(name + ".q", dim, dim);
  w.k = loader.large_linear(name + ".k", dim, dim);
  w.v = loader.large_linear(name + ".v", dim, dim);
  w.o = loader.large_linear(name + ".o", dim, dim);
  w.norm_q = loader.vector(name + ".norm_q.weight", {dim});
  w.norm_k = loader.vector(name + ".norm_k.weight", {dim});
  return w;
}

DitCrossAttentionWeights load_cross_attention(WeightLoader& loader, const std::string& layer, int64_t dim) {
  DitCrossAttentionWeights w;
  w.norm_weight = loader.vector(layer + ".norm3.weight", {dim});
  w.norm_bias = loader.vector(layer + ".norm3.bias", {dim});
  w.attention = load_attention(loader, layer + ".cross_attn", dim);
  return w;
}

DitFfnWeights load_ffn(WeightLoader& loader, const std::string& name, const DitConfig& c) {
  DitFfnWeights w;
  w.in = loader.large_linear(name + ".0", c.ffn_dim, c.dim);
  w.out = loader.large_linear(name + ".2", c.dim, c.ffn_dim);
  return w;
}

DitInjectorWeights load_injector(WeightLoader& loader, int64_t injector, int64_t dim) {
  const std::string j = std::to_string(injector), adain = "audio_injector.injector_adain_layers." + j + ".linear";
  const Shape both{2 * dim, dim};  // first half: shift
  DitInjectorWeights w;
  w.attention = load_attention(loader, "audio_injector.injector." + j, dim);
  w.adain_shift = loader.linear_rows(adain, both, 0, dim);
  w.adain_scale = loader.linear_rows(adain, both, dim, dim);
  return w;
}

// SiLU(w) / sum SiLU(w) over the audio encoder's hidden states.
Tensor load_layer_shares(WeightLoader& loader, const DitConfig& c) {
  Tensor weights = loader.read_f32("casual_audio_encoder.weights", {1, c.audio_layers, 1, 1});
  std::vector<float> shares(static_cast<size_t>(c.audio_layers), 1.0f);
  if (!weights.empty()) std::copy_n(weights.host<float>(), c.audio_layers, shares.begin());
  double sum = 0;
  for (float& s : shares) sum += s = s / (1 + std::exp(-s));
  for (float& s : shares) s = static_cast<float>(s / sum);
  return loader.keep(shares, {c.audio_layers});
}

AudioEncoderWeights load_audio_encoder(WeightLoader& loader, const DitConfig& c) {
  const std::string name = "casual_audio_encoder.encoder.";  // the checkpoint's own spelling
  AudioEncoderWeights w;
  w.layer_shares = load_layer_shares(loader, c);
  const std::array<int64_t, 3> kernel{1, 3, 1};  // time runs along rows, the local heads along columns
  int64_t quarter = c.dim / 4, half = c.dim / 2;
  w.conv1_local = loader.conv(name + "conv1_local.conv", quarter * c.audio_tokens, c.audio_dim, kernel);
  w.conv1_global = loader.conv(name + "conv1_global.conv", quarter, c.audio_dim, kernel);
  w.conv2 = loader.conv(name + "conv2.conv", half, quarter, kernel);
  w.conv3 = loader.conv(name + "conv3.conv", c.dim, half, kernel);
  w.final_linear = loader.linear(name + "final_linear", c.dim, c.dim);
  w.padding_token = loader.vector(name + "padding_tokens", {1, c.dim});
  return w;
}

}  // namespace

std::vector<DitPage> dit_pages(const DitConfig& c) {
  std::vector<DitPage> pages;
  for (int64_t i = 0; i < c.layers; ++i) {
    for (DitPart part : {DitPart::kSelfAttention, DitPart::kCrossAttention, DitPart::kFfn}) pages.push_back({part, i});
    if (c.injector_of(i) >= 0) pages.push_back({DitPart::kInjector, i});
  }
  return pages;
}

DitPageWeights load_dit_page(const DitConfig& c, const DitPage& page, WeightLoader& loader) {
  const std::string layer = "blocks." + std::to_string(page.layer);
  switch (page.part) {
    case DitPart::kSelfAttention:
      return DitSelfAttentionWeights{load_attention(loader, layer + ".self_attn", c.dim)};
    case DitPart::kCrossAttention:
      return load_cross_attention(loader, layer, c.dim);
    case DitPart::kFfn:
      return load_ffn(loader, layer + ".ffn", c);
    case DitPart::kInjector:
      return load_injector(loader, c.injector_of(page.layer), c.dim);
  }
  LA_CHECK(false);
}

DitCommonWeights load_dit_common(const DitConfig& c, WeightLoader& loader) {
  DitCommonWeights w;
  w.patch = loader.linear("patch_embedding", c.dim, c.channels * volume(kPatch));
  w.pose_patch = loader.linear("cond_encoder", c.dim, c.channels * volume(kPatch));
  w.pack_1x = loader.linear("frame_packer.proj", c.dim, c.channels * volume(kPatch));
  w.pack_2x = loader.linear("frame_packer.proj_2x", c.dim, c.channels * volume(kPatch2x));
  w.pack_4x = loader.linear("frame_packer.proj_4x", c.dim, c.channels * volume(kPatch4x));
  w.text_in = loader.linear("text_embedding.0", c.dim, c.text_dim);
  w.text_out = loader.linear("text_embedding.2", c.dim, c.dim);
  w.time_in = loader.linear("time_embedding.0", c.dim, c.freq_dim);
  w.time_out = loader.linear("time_embedding.2", c.dim, c.dim);
  w.time_project = loader.linear("time_projection.1", 6 * c.dim, c.dim);
  w.kind = loader.vector("trainable_cond_mask.weight", {3, c.dim});
  for (int64_t i = 0; i < c.layers && loader.status().ok(); ++i)
    w.modulation.push_back(loader.vector("blocks." + std::to_string(i) + ".modulation", {6, c.dim}));
  w.audio = load_audio_encoder(loader, c);
  w.head = loader.linear("head.head", c.channels * volume(kPatch), c.dim);
  w.head_modulation = loader.vector("head.modulation", {2, c.dim});
  return w;
}

std::map<std::string, Shape> dit_tensors(const DitConfig& c, const Backend& backend) {
  Budget counting{Budget::Measuring()};
  WeightLoader loader(backend, counting, Tenant::kWeights, DType::kBF16);
  loader.place_at(nullptr);
  load_dit_common(c, loader);
  for (const DitPage& page : dit_pages(c)) load_dit_page(c, page, loader);
  return loader.asked();
}

Expected<DitWeights> load_dit_weights(const DitConfig& c, WeightLoader& loader) {
  DitWeights w;
  w.common = load_dit_common(c, loader);
  for (const DitPage& page : dit_pages(c)) {
    if (loader.status().ok()) w.pages.push_back(load_dit_page(c, page, loader));
  }
  LA_RETURN_IF_ERROR(loader.status());
  w.buffers = loader.take_buffers();
  return w;
}

}  // namespace liveavatar
