// Parses names of adapter tensors: the base tensor, and the role.
#pragma once

#include <map>
#include <string>

#include "weights/tensor_source.h"

namespace liveavatar {

// The role of an adapter tensor for its base tensor W.
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
  std::string module;      // the part of the name before the role
  const char* field = "";  // the module's tensor: "weight", "bias", "modulation"; empty: module is the whole name
  const char* refused = nullptr;  // the reason if such tensors are not supported
};
LoraName parse_lora_name(const std::string& name);

// A base's tensors by every name that adapters use: the original's and Diffusers', each with dots or with underscores.
class LoraTargets {
 public:
  explicit LoraTargets(const std::map<std::string, TensorInfo>& base);
  // The base tensor's name, without known prefixes. Empty: none.
  std::string find(const LoraName& name) const;

 private:
  std::string look_up(const std::string& spelled) const;

  std::map<std::string, std::string> by_spelling_;  // an empty value: two tensors share the spelling
};

constexpr const char* kPeftPrefix = "base_model.model.";
// Whether a name has a known prefix.
bool has_lora_prefix(const std::string& name);

}  // namespace liveavatar
