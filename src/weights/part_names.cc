#include "weights/part_names.h"

#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace liveavatar {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

bool has_prefix(const TensorSource& file, const std::string& prefix) {
  auto it = file.tensors().lower_bound(prefix);
  return it != file.tensors().end() && it->first.starts_with(prefix);
}

// name[at...] read as digits and a dot: the digits, and at moved behind the dot. Empty: something else stands there.
std::string take_number(const std::string& name, size_t& at) {
  size_t end = at;
  while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
  if (end == at || end - at > 6 || end >= name.size() || name[end] != '.') return {};
  std::string digits = name.substr(at, end - at);
  at = end + 1;
  return digits;
}

bool take_text(const std::string& name, std::string_view text, size_t& at) {
  if (name.compare(at, text.size(), text) != 0) return false;
  at += text.size();
  return true;
}

// Whether there is a name <stem><n>.<rest>, with one of these beginnings of the rest.
bool has_layer(const TensorSource& file, const std::string& stem, std::initializer_list<std::string_view> rests) {
  for (auto it = file.tensors().lower_bound(stem); it != file.tensors().end() && it->first.starts_with(stem); ++it) {
    size_t at = stem.size();
    if (take_number(it->first, at).empty()) continue;
    for (std::string_view rest : rests) {
      if (it->first.compare(at, rest.size(), rest) == 0) return true;
    }
  }
  return false;
}

// The replacement of the first pair whose left side the text starts with, and the rest behind it; "": none.
template <typename Pairs>
std::string replace_start(const std::string& text, const Pairs& pairs) {
  for (const auto& [from, to] : pairs) {
    if (text.starts_with(from)) return std::string(to) + text.substr(from.size());
  }
  return {};
}

// ---- video model ----

constexpr std::array<std::string_view, 11> kDitRoots{"blocks.",
                                                     "patch_embedding.",
                                                     "text_embedding.",
                                                     "time_embedding.",
                                                     "time_projection.",
                                                     "head.",
                                                     "casual_audio_encoder.",
                                                     "audio_injector.",
                                                     "frame_packer.",
                                                     "cond_encoder.",
                                                     "trainable_cond_mask."};

std::string dit_name(const std::string& name) { return name; }

// Roots that other models (and the text encoder, whose blocks. it shares) do not have.
bool is_dit(const TensorSource& file, const std::string& prefix) {
  for (std::string_view root : kDitRoots) {
    bool shared = root == "blocks." || root == "head.";
    if (!shared && has_prefix(file, prefix + std::string(root))) return true;
  }
  return has_layer(file, prefix + "blocks.", {"self_attn.", "cross_attn.", "ffn.0.", "ffn.2.", "norm3.", "modulation"});
}

// ---- text encoder ----

// encoder.block.<n>.layer.<0|1>.<module>
std::string umt5_from_hf(const std::string& name) {
  static const std::array kWhole{Pair{"shared.weight", "token_embedding.weight"},
                                 Pair{"encoder.final_layer_norm.weight", "norm.weight"}};
  static const std::array kLayer{Pair{"layer.0.SelfAttention.relative_attention_bias.", "pos_embedding.embedding."},
                                 Pair{"layer.0.SelfAttention.", "attn."},
                                 Pair{"layer.0.layer_norm.", "norm1."},
                                 Pair{"layer.1.DenseReluDense.wi_0.", "ffn.gate.0."},
                                 Pair{"layer.1.DenseReluDense.wi_1.", "ffn.fc1."},
                                 Pair{"layer.1.DenseReluDense.wo.", "ffn.fc2."},
                                 Pair{"layer.1.layer_norm.", "norm2."}};
  if (std::string whole = replace_start(name, kWhole); !whole.empty()) return whole;
  size_t at = 0;
  if (!take_text(name, "encoder.block.", at)) return {};
  std::string layer = take_number(name, at), rest = replace_start(name.substr(at), kLayer);
  return layer.empty() || rest.empty() ? std::string() : "blocks." + layer + "." + rest;
}

std::string umt5_from_llama_cpp(const std::string& name) {
  static const std::array kWhole{Pair{"token_embd.weight", "token_embedding.weight"},
                                 Pair{"enc.output_norm.weight", "norm.weight"}};
  static const std::array kLayer{Pair{"attn_q.", "attn.q."},       Pair{"attn_k.", "attn.k."},
                                 Pair{"attn_v.", "attn.v."},       Pair{"attn_o.", "attn.o."},
                                 Pair{"attn_norm.", "norm1."},     Pair{"attn_rel_b.", "pos_embedding.embedding."},
                                 Pair{"ffn_gate.", "ffn.gate.0."}, Pair{"ffn_up.", "ffn.fc1."},
                                 Pair{"ffn_down.", "ffn.fc2."},    Pair{"ffn_norm.", "norm2."}};
  if (std::string whole = replace_start(name, kWhole); !whole.empty()) return whole;
  size_t at = 0;
  if (!take_text(name, "enc.blk.", at)) return {};
  std::string layer = take_number(name, at), rest = replace_start(name.substr(at), kLayer);
  return layer.empty() || rest.empty() ? std::string() : "blocks." + layer + "." + rest;
}

std::string umt5_original(const std::string& name) {
  bool known = name.starts_with("blocks.") || name == "token_embedding.weight" || name == "norm.weight";
  return known ? name : std::string();
}

// ---- video VAE ----

constexpr std::array kVaeResidual{Pair{"norm1.", "residual.0."}, Pair{"conv1.", "residual.2."},
                                  Pair{"norm2.", "residual.3."}, Pair{"conv2.", "residual.6."},
                                  Pair{"conv_shortcut.", "shortcut."}};

// The part after a layer's index in Diffusers' names; resamplers keep their own.
std::string vae_layer(const std::string& rest) {
  std::string residual = replace_start(rest, kVaeResidual);
  return residual.empty() ? rest : residual;
}

// mid_block.resnets.<0|1>.*, mid_block.attentions.0.*
std::string vae_middle(const std::string& rest) {
  size_t at = 0;
  if (take_text(rest, "attentions.0.", at)) return "middle.1." + rest.substr(at);
  if (!take_text(rest, "resnets.", at)) return {};
  std::string index = take_number(rest, at);
  if (index != "0" && index != "1") return {};
  return (index == "0" ? "middle.0." : "middle.2.") + vae_layer(rest.substr(at));
}

// up_blocks.<b>.resnets.<r>.*, up_blocks.<b>.upsamplers.0.*: three residual blocks and a resampler each.
std::string vae_upsample(const std::string& rest) {
  constexpr int kLayersEach = 4;
  size_t at = 0;
  std::string block = take_number(rest, at), index = "3";
  if (block.empty()) return {};
  bool resampler = take_text(rest, "upsamplers.0.", at);
  if (!resampler) {
    if (!take_text(rest, "resnets.", at)) return {};
    index = take_number(rest, at);
    if (index != "0" && index != "1" && index != "2") return {};
  }
  int layer = kLayersEach * std::stoi(block) + std::stoi(index);
  return "upsamples." + std::to_string(layer) + "." + vae_layer(rest.substr(at));
}

std::string vae_from_diffusers(const std::string& name) {
  static const std::array kWhole{Pair{"quant_conv.", "conv1."}, Pair{"post_quant_conv.", "conv2."}};
  if (std::string whole = replace_start(name, kWhole); !whole.empty()) return whole;
  for (const char* half : {"encoder.", "decoder."}) {
    size_t at = 0;
    if (!take_text(name, half, at)) continue;
    static const std::array kEnds{Pair{"conv_in.", "conv1."}, Pair{"norm_out.", "head.0."},
                                  Pair{"conv_out.", "head.2."}};
    std::string rest = replace_start(name.substr(at), kEnds);
    if (rest.empty() && take_text(name, "mid_block.", at)) rest = vae_middle(name.substr(at));
    if (rest.empty() && take_text(name, "up_blocks.", at)) rest = vae_upsample(name.substr(at));
    if (rest.empty() && take_text(name, "down_blocks.", at)) {
      std::string index = take_number(name, at);
      if (!index.empty()) rest = "downsamples." + index + "." + vae_layer(name.substr(at));
    }
    return rest.empty() ? std::string() : half + rest;
  }
  return {};
}

std::string vae_original(const std::string& name) { return name; }

// ---- audio encoder ----

std::string wav2vec2_name(const std::string& name) {
  static const std::array kOlder{
      Pair{"encoder.pos_conv_embed.conv.weight_g", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"},
      Pair{"encoder.pos_conv_embed.conv.weight_v", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"}};
  if (std::string newer = replace_start(name, kOlder); !newer.empty()) return newer;
  bool known =
      name.starts_with("feature_extractor.") || name.starts_with("feature_projection.") || name.starts_with("encoder.");
  return known ? name : std::string();
}

Spelling find_umt5_spelling(const TensorSource& file) {
  for (const char* prefix : {"", "text_encoders.umt5xxl.transformer."}) {
    if (has_layer(file, prefix + std::string("encoder.block."), {"layer."})) return {prefix, umt5_from_hf};
  }
  if (has_layer(file, "enc.blk.", {"attn_", "ffn_"})) return {"", umt5_from_llama_cpp};
  if (has_layer(file, "blocks.", {"attn.", "pos_embedding.", "ffn.gate.", "ffn.fc"})) return {"", umt5_original};
  return {};
}

Spelling find_vae_spelling(const TensorSource& file) {
  for (std::string prefix : {"", "vae.", "first_stage_model."}) {
    for (const char* half : {"encoder.", "decoder."}) {
      if (has_prefix(file, prefix + half + "mid_block.")) return {prefix, vae_from_diffusers};
      if (has_prefix(file, prefix + half + "middle.")) return {prefix, vae_original};
    }
  }
  return {};
}

}  // namespace

Spelling find_spelling(const TensorSource& file, Part part) {
  switch (part) {
    case Part::kVideoModel:
      for (const char* prefix : {"model.diffusion_model.", "diffusion_model.", "model.", "net.", ""}) {
        if (is_dit(file, prefix)) return {prefix, dit_name};
      }
      return {};
    case Part::kTextEncoder:
      return find_umt5_spelling(file);
    case Part::kVae:
      return find_vae_spelling(file);
    case Part::kAudioEncoder:
      for (const char* prefix : {"", "wav2vec2."}) {
        if (has_prefix(file, prefix + std::string("feature_extractor.conv_layers."))) return {prefix, wav2vec2_name};
      }
      return {};
  }
  return {};
}

}  // namespace liveavatar
