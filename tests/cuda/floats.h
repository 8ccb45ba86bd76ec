// A tensor in f32 or bf16 on the device, and its values.
#pragma once

#include "backend/cuda/kernels.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {

constexpr ElementType kF32 = ElementType::kF32, kBF16 = ElementType::kBF16;

class Floats {
 public:
  Floats(const std::vector<float>& x, ElementType type)
      : type_(type), f32_(type == kF32 ? x : std::vector<float>()), bf16_(rounded(x)) {}
  void* data() const { return type_ == kF32 ? static_cast<void*>(f32_.data()) : bf16_.data(); }
  std::vector<float> host() const { return type_ == kF32 ? f32_.host() : widened(bf16_.host()); }
  operator Input() const { return {data(), type_}; }
  operator Output() const { return {data(), type_}; }

 private:
  ElementType type_;
  DeviceVector<float> f32_;
  DeviceVector<uint16_t> bf16_;
};

// Of outputs in this type.
constexpr double tolerance(ElementType out) { return out == kF32 ? kF32Tolerance : kBF16Tolerance; }

}  // namespace liveavatar::cuda::emulated
