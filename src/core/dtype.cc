#include "core/dtype.h"

#include <cmath>

#include "core/status.h"

namespace liveavatar {

const char* dtype_name(DType t) {
  switch (t) {
    case DType::kF32:
      return "F32";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kF64:
      return "F64";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kI16:
      return "I16";
    case DType::kI8:
      return "I8";
    case DType::kU8:
      return "U8";
    case DType::kBool:
      return "BOOL";
    case DType::kF8E4M3:
      return "F8_E4M3";
    case DType::kF8E5M2:
      return "F8_E5M2";
    case DType::kQ4:
      return "Q4";
  }
  return "?";
}

float to_f32(f16 x) {
  uint32_t sign = uint32_t{x.bits & 0x8000u} << 16, exponent = (x.bits >> 10) & 31, mantissa = x.bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // zero or denormal
  return sign ? -magnitude : magnitude;
}

f16 to_f16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u;
  uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00)};  // rounds to infinity
  if (magnitude < 0x38800000u) {  // denormal: adding 0.5 lets the f32 adder round at 2^-24
    float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

float to_f32(f8e4m3 x) {
  uint32_t sign = uint32_t{x.bits & 0x80u} << 24, magnitude = x.bits & 0x7fu;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude >= 8) return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
  float small = static_cast<float>(magnitude) * 0x1p-9f;  // zero or denormal
  return sign ? -small : small;
}

f8e4m3 to_f8e4m3(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 24) & 0x80u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7f)};
  float size = std::bit_cast<float>(magnitude);
  if (size >= 448.0f) return {static_cast<uint8_t>(sign | 0x7e)};
  if (size < 0x1p-6f) return {static_cast<uint8_t>(sign | static_cast<uint32_t>(std::nearbyint(size * 0x1p9f)))};
  uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1);
  return {static_cast<uint8_t>(sign | ((rounded - (120u << 23)) >> 20))};
}

namespace {

template <typename T>
void widen(const void* source, float* target, int64_t n) {
  const char* bytes = static_cast<const char*>(source);
  for (int64_t i = 0; i < n; ++i) {  // memcpy: sources inside files need not be aligned
    T value;
    std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    if constexpr (requires { to_f32(value); }) {
      target[i] = to_f32(value);
    } else {
      target[i] = static_cast<float>(value);
    }
  }
}

}  // namespace

void convert_to_f32(const void* source, DType type, float* target, int64_t n) {
  switch (type) {
    case DType::kF32:
      std::memcpy(target, source, static_cast<size_t>(n) * 4);
      return;
    case DType::kBF16:
      return widen<bf16>(source, target, n);
    case DType::kF16:
      return widen<f16>(source, target, n);
    case DType::kF64:
      return widen<double>(source, target, n);
    case DType::kI64:
      return widen<int64_t>(source, target, n);
    case DType::kI32:
      return widen<int32_t>(source, target, n);
    case DType::kI16:
      return widen<int16_t>(source, target, n);
    case DType::kI8:
      return widen<int8_t>(source, target, n);
    case DType::kU8:
    case DType::kBool:
      return widen<uint8_t>(source, target, n);
    case DType::kF8E4M3:
      return widen<f8e4m3>(source, target, n);
    case DType::kF8E5M2:
      return widen<f8e5m2>(source, target, n);
    case DType::kQ4:
      LA_CHECK(!"convert_to_f32: blocks are not elements");
  }
}

void convert_from_f32(const float* source, void* target, DType type, int64_t n) {
  switch (type) {
    case DType::kF32:
      std::memcpy(target, source, static_cast<size_t>(n) * 4);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < n; ++i) static_cast<bf16*>(target)[i] = to_bf16(source[i]);
      return;
    case DType::kF16:
      for (int64_t i = 0; i < n; ++i) static_cast<f16*>(target)[i] = to_f16(source[i]);
      return;
    default:
      LA_CHECK(!"convert_from_f32: not a float type");
  }
}

}  // namespace liveavatar
