// The spellings of adapter tensors: which base tensor one belongs to, and as what.
#pragma once

#include <map>
#include <string>

#include "weights/tensor_source.h"

namespace liveavatar {

// What an adapter tensor is to its base tensor W.
enum class LoraRole {
  kDown,  // [rank, in] of a pair
  kUp,    // [out, rank]
  kHadaW1A,
  kHadaW1B,
  kHadaW2A,
  kHadaW2B,
  kLokrW1,
  kLokrW1A,
  kLokrW1B,
  kLokrW2,
  kLokrW2A,
  kLokrW2B,
  kAlpha,
  kDiff,    // added to W
  kValues,  // in W's place
};

struct LoraName {
  LoraRole role = LoraRole::kValues;
  std::string module;      // what stands before the role, as it is spelled
  const char* field = "";  // which of the module's tensors: "weight", "bias", "modulation"; empty: module is all of it
  const char* refused = nullptr;  // why such a tensor is not merged
};
LoraName parse_lora_name(const std::string& name);

// A base's tensors by every name that adapters have for them: the original's and Diffusers', each with dots and with
// underscores in place of dots.
class LoraTargets {
 public:
  explicit LoraTargets(const std::map<std::string, TensorInfo>& base);
  // The base tensor's name, known prefixes taken off; empty: none.
  std::string find(const LoraName& name) const;

 private:
  std::string look_up(const std::string& spelled) const;

  std::map<std::string, std::string> by_spelling_;  // an empty value: two tensors share the spelling
};

constexpr const char* kPeftPrefix = "base_model.model.";
// Whether a known prefix stands before a name.
bool has_lora_prefix(const std::string& name);

}  // namespace liveavatar
