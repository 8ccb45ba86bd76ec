#include "session/finite.h"

#include <algorithm>
#include <bit>
#include <span>
#include <string>

#include "ops/transfer.h"

namespace liveavatar {
namespace {

// NaN and infinity have all bits of the exponent. The loop has no branch, so that it runs in vectors.
bool all_finite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, std::bit_cast<uint32_t>(value) & kExponent);
  return largest < kExponent;
}

std::string text_of(const ComputedBy& by) {
  std::string text = "block " + std::to_string(by.block);
  if (by.step >= 0) text += ", step " + std::to_string(by.step);
  if (by.layer >= 0) text += ", layer " + std::to_string(by.layer);
  return text;
}

}  // namespace

Status check_finite(Backend& backend, const Tensor& values, const ComputedBy& by) {
  constexpr int64_t kPart = 1 << 18;  // values: of a card's, the copy in host memory is no larger
  const Tensor flat = values.reshape({values.elements()});
  for (int64_t at = 0; at < flat.elements(); at += kPart) {
    const Download part(backend, flat.slice(at, std::min(kPart, flat.elements() - at)));
    LA_RETURN_IF_ERROR(backend.synchronize());
    if (!all_finite(part.values()))
      return corrupt(text_of(by) +
                     ": the model gave values that are not finite; its weights are damaged, or `dtype` f32 is needed");
  }
  return {};
}

}  // namespace liveavatar
