// Decodes the quantised blocks of GGUF files (little-endian) to f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/dtype.h"

namespace liveavatar {

// Storage type of a GGUF tensor: plain elements, or blocks that `decode` converts to block_values floats each.
struct GgufType {
  uint32_t id = 0;
  const char* name = "";
  DType dtype = DType::kF32;  // of the values after reading; kF32 for blocks
  int64_t block_values = 1;
  size_t block_bytes = 4;
  void (*decode)(const uint8_t* block, float* values) = nullptr;  // null: plain elements
};

// Null: an unsupported type. The supported types, for messages: kGgufTypes.
const GgufType* gguf_type(uint32_t id);
// The name of a type, supported or not; the number of an unknown type.
std::string gguf_type_name(uint32_t id);
constexpr const char* kGgufTypes =
    "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4, NVFP4, TQ1_0, "
    "TQ2_0";
constexpr int64_t kLargestGgufBlock = 256;  // values

}  // namespace liveavatar
