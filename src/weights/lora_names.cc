#include "weights/lora_names.h"

#include <algorithm>
#include <string_view>

namespace liveavatar {
namespace {

struct Ending {
  std::string_view text;
  LoraRole role;
  const char* field = "weight";
};
constexpr Ending kEndings[] = {{".lora_down.weight", LoraRole::kDown},
                               {".lora_up.weight", LoraRole::kUp},
                               {"_lora.down.weight", LoraRole::kDown},
                               {"_lora.up.weight", LoraRole::kUp},
                               {".lora.down.weight", LoraRole::kDown},
                               {".lora.up.weight", LoraRole::kUp},
                               {".lora_linear_layer.down.weight", LoraRole::kDown},
                               {".lora_linear_layer.up.weight", LoraRole::kUp},
                               {".lora_A.weight", LoraRole::kDown},
                               {".lora_B.weight", LoraRole::kUp},
                               {".lora_A", LoraRole::kDown},
                               {".lora_B", LoraRole::kUp},
                               {".hada_w1_a", LoraRole::kHadaW1A},
                               {".hada_w1_b", LoraRole::kHadaW1B},
                               {".hada_w2_a", LoraRole::kHadaW2A},
                               {".hada_w2_b", LoraRole::kHadaW2B},
                               {".lokr_w1", LoraRole::kLokrW1},
                               {".lokr_w1_a", LoraRole::kLokrW1A},
                               {".lokr_w1_b", LoraRole::kLokrW1B},
                               {".lokr_w2", LoraRole::kLokrW2},
                               {".lokr_w2_a", LoraRole::kLokrW2A},
                               {".lokr_w2_b", LoraRole::kLokrW2B},
                               {".alpha", LoraRole::kAlpha},
                               {".diff", LoraRole::kDiff},
                               {".diff_b", LoraRole::kDiff, "bias"},
                               {".diff_m", LoraRole::kDiff, "modulation"},
                               {".w_norm", LoraRole::kDiff},
                               {".b_norm", LoraRole::kDiff, "bias"},
                               {".set_weight", LoraRole::kValues}};

// Variants that do more than add products and differences; merging the rest of such a module alone would be wrong.
struct Refusal {
  std::string_view part;
  const char* why;
};
constexpr Refusal kRefusals[] = {
    {"lora_te", "it adapts a text encoder, not the video model"},
    {"text_encoder.", "it adapts a text encoder, not the video model"},
    {"text_model.", "it adapts a text encoder, not the video model"},
    {".dora_scale", "DoRA (dora_scale) rescales the merged weight"},
    {".lora_magnitude_vector", "DoRA (lora_magnitude_vector) rescales the merged weight"},
    {".reshape_weight", "reshape_weight changes the shape of a weight"},
    {".lora_mid", "lora_mid is a third factor of a decomposed convolution"},
    {".hada_t1", "hada_t1 is a third factor of a decomposed convolution"},
    {".hada_t2", "hada_t2 is a third factor of a decomposed convolution"},
    {".lokr_t2", "lokr_t2 is a third factor of a decomposed convolution"},
    {".lora_A.bias", "lora_bias adapters have a bias in the low-rank path"},
    {".lora_B.bias", "lora_bias adapters have a bias in the low-rank path"},
    {".lora_embedding_", "lora_embedding adapts an embedding table"},
    {".oft_", "OFT rotates the weight"},
    {".boft_", "BOFT rotates the weight"},
    {".vera_lambda_", "VeRA shares its factors between layers"},
    {".a1.weight", "GLoRA also multiplies the weight"},
    {".a2.weight", "GLoRA also multiplies the weight"},
    {".b1.weight", "GLoRA also multiplies the weight"},
    {".b2.weight", "GLoRA also multiplies the weight"},
};

constexpr std::string_view kPrefixes[] = {kPeftPrefix,
                                          "model.diffusion_model.",
                                          "diffusion_model.",
                                          "transformer.",
                                          "model.",
                                          "unet.",
                                          "net.",
                                          "lora_unet__",
                                          "lora_unet_",
                                          "lora_transformer_",
                                          "lycoris_"};

// PEFT writes an adapter's name after the role: .lora_A.default.weight is .lora_A.weight.
std::string without_adapter_name(const std::string& name) {
  for (std::string_view role : {".lora_A.", ".lora_B."}) {
    size_t at = name.rfind(role);
    if (at == std::string::npos) continue;
    size_t after = at + role.size(), dot = name.find('.', after);
    bool one_word = dot != std::string::npos && name.find('.', dot + 1) == std::string::npos;
    if (one_word) return name.substr(0, after) + name.substr(dot + 1);
  }
  return name;
}

std::string with_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

struct Rename {
  std::string_view original, diffusers;
};
constexpr Rename kOutsideBlocks[] = {{"text_embedding.0.", "condition_embedder.text_embedder.linear_1."},
                                     {"text_embedding.2.", "condition_embedder.text_embedder.linear_2."},
                                     {"time_embedding.0.", "condition_embedder.time_embedder.linear_1."},
                                     {"time_embedding.2.", "condition_embedder.time_embedder.linear_2."},
                                     {"time_projection.1.", "condition_embedder.time_proj."},
                                     {"head.head.", "proj_out."},
                                     {"head.modulation", "scale_shift_table"}};
constexpr Rename kInBlocks[] = {{"self_attn.q.", "attn1.to_q."},
                                {"self_attn.k.", "attn1.to_k."},
                                {"self_attn.v.", "attn1.to_v."},
                                {"self_attn.o.", "attn1.to_out.0."},
                                {"self_attn.norm_", "attn1.norm_"},
                                {"cross_attn.q.", "attn2.to_q."},
                                {"cross_attn.k.", "attn2.to_k."},
                                {"cross_attn.v.", "attn2.to_v."},
                                {"cross_attn.o.", "attn2.to_out.0."},
                                {"cross_attn.norm_", "attn2.norm_"},
                                {"ffn.0.", "ffn.net.0.proj."},
                                {"ffn.2.", "ffn.net.2."},
                                {"norm3.", "norm2."},
                                {"modulation", "scale_shift_table"}};

template <size_t kCount>
std::string renamed(std::string_view name, const Rename (&renames)[kCount]) {
  for (const Rename& r : renames) {
    if (name.starts_with(r.original)) return std::string(r.diffusers) + std::string(name.substr(r.original.size()));
  }
  return std::string(name);
}

// The name in Diffusers of a tensor of the original.
std::string diffusers_name(const std::string& name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return renamed(name, kOutsideBlocks);
  size_t dot = name.find('.', kBlocks.size());
  if (dot == std::string::npos) return name;
  return name.substr(0, dot + 1) + renamed(std::string_view(name).substr(dot + 1), kInBlocks);
}

}  // namespace

LoraName parse_lora_name(const std::string& name) {
  LoraName parsed;
  parsed.module = without_adapter_name(name);
  for (const Refusal& refusal : kRefusals) {
    if (parsed.module.find(refusal.part) != std::string::npos) {
      parsed.refused = refusal.why;
      return parsed;
    }
  }
  for (const Ending& ending : kEndings) {
    if (parsed.module.ends_with(ending.text)) {
      parsed.module.resize(parsed.module.size() - ending.text.size());
      parsed.role = ending.role;
      parsed.field = ending.field;
      break;
    }
  }
  constexpr std::string_view kWrapped = ".base_layer";  // PEFT's name for the layer that an adapter wraps
  if (size_t at = parsed.module.find(kWrapped); at != std::string::npos) parsed.module.erase(at, kWrapped.size());
  return parsed;
}

LoraTargets::LoraTargets(const std::map<std::string, TensorInfo>& base) {
  auto add = [&](const std::string& spelling, const std::string& name) {
    auto [at, added] = by_spelling_.emplace(spelling, name);
    if (!added && at->second != name) at->second.clear();
  };
  for (const auto& [name, info] : base) {
    for (const std::string& spelling : {name, diffusers_name(name)}) {
      add(spelling, name);
      add(with_underscores(spelling), name);
    }
  }
}

std::string LoraTargets::look_up(const std::string& spelled) const {
  auto found = by_spelling_.find(spelled);
  return found == by_spelling_.end() ? "" : found->second;
}

std::string LoraTargets::find(const LoraName& name) const {
  constexpr int kMostPrefixes = 3;
  std::string_view module = name.module;
  for (int taken = 0; taken <= kMostPrefixes; ++taken) {
    const std::string spelled(module), field(name.field);
    std::string found;
    if (!field.empty()) found = look_up(spelled + "." + field);
    if (found.empty() && !field.empty()) found = look_up(spelled + "_" + field);
    // A tensor that is not a module's weight has its whole name.
    if (found.empty() && (field.empty() || field == "weight")) found = look_up(spelled);
    if (!found.empty()) return found;
    auto prefix = std::find_if(std::begin(kPrefixes), std::end(kPrefixes),
                               [&](std::string_view p) { return module.starts_with(p); });
    if (prefix == std::end(kPrefixes)) return "";
    module.remove_prefix(prefix->size());
  }
  return "";
}

bool has_lora_prefix(const std::string& name) {
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view p) { return name.starts_with(p); });
}

}  // namespace liveavatar
