// Synthetic weights: values from a counter and a seed.
#include <algorithm>
#include <cmath>

#include "weights/tensor_source.h"

namespace liveavatar {
namespace {

uint64_t mix(uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

struct Range {
  float center = 0, half_width = 0;
};

// Matrix products keep the magnitude of their input and norms scale little, so values stay small at any depth.
Range range_of(const std::string& name, const Shape& shape) {
  if (name.ends_with(".weights")) return {1, 0.5f};  // weights of the audio encoder's hidden states
  if (name.ends_with("bias")) return {0, 0.02f};
  if (name.ends_with("modulation")) return {0, 0.1f};
  int wide = 0;
  for (int i = 0; i < shape.rank(); ++i) wide += shape[i] > 1;
  if (wide < 2) return {1, 0.1f};  // gains
  return {0, std::sqrt(3.0f * static_cast<float>(shape[0]) / static_cast<float>(shape.elements()))};
}

class SyntheticSource : public TensorSource {
 public:
  SyntheticSource(const std::map<std::string, Shape>& shapes, uint64_t seed) : seed_(seed) {
    for (const auto& [name, shape] : shapes) tensors_[name] = {shape, DType::kBF16};
  }
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return "synthetic tensors"; }

  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    Range range = range_of(name, tensors_.at(name).shape);
    uint64_t stream = seed_;
    for (char c : name) stream = mix(stream * 31 + static_cast<unsigned char>(c));
    auto* out = static_cast<bf16*>(target);
    constexpr int64_t kLanes = 4;  // 16-bit values from one 64-bit random number
    uint64_t bits = 0;
    for (int64_t n = 0; n < part.count; ++n) {
      int64_t i = part.first + n, lane = i % kLanes;
      if (n == 0 || lane == 0) bits = mix(stream + static_cast<uint64_t>(i / kLanes) * 0x9E3779B97F4A7C15u);
      float share = static_cast<float>(static_cast<int16_t>(bits >> (16 * lane))) * (1.0f / 32768);
      out[n] = to_bf16(range.center + range.half_width * share);
    }
    return {};
  }

 private:
  uint64_t seed_;
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace

TensorSourcePtr synthetic_tensors(const std::map<std::string, Shape>& shapes, uint64_t seed) {
  return std::make_shared<SyntheticSource>(shapes, seed);
}

}  // namespace liveavatar
