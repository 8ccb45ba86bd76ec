// Element types. The 16-bit and 8-bit floats are plain structs with explicit conversions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace liveavatar {

// kF8E4M3: 4 exponent bits, 3 mantissa bits, no infinity. kF8E5M2: 5 and 2 bits, the upper byte of an f16; only read
// from files. kQ4: blocks of 4-bit values (core/quantise.h), never single elements.
enum class DType : uint8_t { kF32, kBF16, kF16, kF64, kI64, kI32, kI16, kI8, kU8, kBool, kF8E4M3, kQ4, kF8E5M2 };

constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return 1;
    case DType::kQ4:
      return 0;  // half a byte, and a part of its block's scale
  }
  return 0;
}

// "F32", "BF16", ... the names of safetensors.
const char* dtype_name(DType t);

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
struct f8e4m3 {
  uint8_t bits;
};
struct f8e5m2 {
  uint8_t bits;
};

inline float to_f32(float x) { return x; }
inline float to_f32(bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
float to_f32(f16 x);
float to_f32(f8e4m3 x);
inline float to_f32(f8e5m2 x) { return to_f32(f16{static_cast<uint16_t>(x.bits << 8)}); }

// Rounds to nearest even. NaN stays NaN.
inline bf16 to_bf16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}
f16 to_f16(float x);
f8e4m3 to_f8e4m3(float x);  // saturates at 448

template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<bf16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<f16> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};

// Converts n elements of any float or integer type to f32 (host memory).
void convert_to_f32(const void* source, DType type, float* target, int64_t n);
// Converts n f32 to kF32, kBF16 or kF16 (host memory).
void convert_from_f32(const float* source, void* target, DType type, int64_t n);

}  // namespace liveavatar
