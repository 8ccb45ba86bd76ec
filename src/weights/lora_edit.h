// What an adapter's tensors come to for one tensor of the base.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "weights/lora.h"
#include "weights/lora_delta.h"
#include "weights/lora_names.h"

namespace liveavatar {

// What an adapter does to one base tensor, in this order.
struct LoraEdit {
  std::string values;           // adapter tensor in W's place, or empty
  std::vector<LoraTerm> terms;  // low-rank terms
  std::string diff;             // adapter tensor to add, or empty
};

// The adapter's tensors that belong to one base tensor.
using LoraParts = std::map<LoraRole, std::string>;

// Of the base tensor `name`. Parts that do not fit it or each other are an error; what is merged goes into the report.
Expected<LoraEdit> make_lora_edit(const LoraAdapter& adapter, const std::string& name, const Shape& shape,
                                  const LoraParts& parts, LoraReport& report);

}  // namespace liveavatar
