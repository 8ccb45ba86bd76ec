// LoRA adapters in all common spellings, merged while tensors are read.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "weights/tensor_source.h"

namespace liveavatar {

// The scale settings of PEFT's adapter_config.json. The patterns are regular expressions for the end of a module's
// name, as in PEFT. The first match counts.
struct PeftConfig {
  int64_t rank = 0;
  double alpha = 0;
  bool root_of_rank = false;  // use_rslora: alpha / sqrt(rank)
  std::vector<std::pair<std::string, double>> alpha_pattern, rank_pattern;

  double alpha_of(const std::string& module) const;
  double rank_of(const std::string& module) const;
};
// Unsupported variants (DoRA, ...) are errors that name the variant.
Expected<PeftConfig> read_peft_config(const std::string& path);

// The files of an adapter. config is empty if there is none.
struct LoraFiles {
  std::string weights, config;
};
// path: a file, or a folder with liveavatar.safetensors, adapter_model.safetensors, pytorch_lora_weights.safetensors or
// one other .safetensors. PEFT's adapter_config.json beside the file belongs to it.
Expected<LoraFiles> find_lora(const std::string& path);

struct LoraAdapter {
  TensorSourcePtr source;
  double strength = 1;               // factor of all changes of the adapter
  std::optional<double> alpha = {};  // of matrices for which neither the file nor the config has one; absent: factor 1
  std::optional<PeftConfig> peft = {};
};
Expected<LoraAdapter> open_lora(const std::string& path);

// Live Avatar's own adapter: PEFT's names (lora_A and lora_B, base_model.model. before them, or none in a file called
// liveavatar.safetensors), the audio cross-attention adapted, and no alpha in file or config. It is in the settings of
// the training.
bool is_live_avatar_lora(const LoraAdapter& adapter);

// Counts of a merge, in base tensors.
struct LoraReport {
  template <typename T>
  struct Range {
    T low{}, high{};
    bool empty = true;
    void add(T value);
  };
  std::string where;
  double strength = 1;
  int merged = 0;       // matrices with a product of factors added
  int added = 0;        // tensors with a difference added
  int overwritten = 0;  // tensors that the adapter replaces
  Range<int64_t> rank;
  Range<double> alpha, factor;  // alpha: empty where none is given; factor: without the strength

  std::string line() const;  // "x.safetensors: merged 810 matrices, rank 128, alpha 64 (factor 0.5), strength 0.8"
};

// base with adapters merged one after the other, each with its strength s: W + s * factor * up down for every pair, the
// factor alpha / rank; LoHa and LoKr products likewise; differences times s; what replaces a tensor V: W + s * (V - W).
// Merged tensors read as f32 (not rounded), a few rows at a time. Unknown adapter
// tensors, or ones that match no base tensor, are errors that name them.
struct LoraMerge {
  TensorSourcePtr source;
  LoraReport report;
};
Expected<LoraMerge> merge_lora(TensorSourcePtr base, LoraAdapter adapter);
struct LoraMerges {
  TensorSourcePtr source;
  std::vector<LoraReport> reports;  // in the adapters' order
};
Expected<LoraMerges> merge_loras(TensorSourcePtr base, std::vector<LoraAdapter> adapters);

}  // namespace liveavatar
