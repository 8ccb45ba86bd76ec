// All changes of an adapter to one base tensor.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "weights/lora.h"
#include "weights/lora_delta.h"
#include "weights/lora_names.h"

namespace liveavatar {

// Changes to one base tensor, in this order.
struct LoraEdit {
  std::string values;           // adapter tensor that replaces W, or empty
  std::vector<LoraTerm> terms;  // low-rank terms
  std::string diff;             // adapter tensor to add, or empty
};

// The adapter's tensors that belong to one base tensor.
using LoraParts = std::map<LoraRole, std::string>;

// Changes to the base tensor `name`. Parts that do not match it or each other are an error. Updates the report.
Expected<LoraEdit> make_lora_edit(const LoraAdapter& adapter, const std::string& name, const Shape& shape,
                                  const LoraParts& parts, LoraReport& report);

}  // namespace liveavatar
