#include "backend/reference/quantised.h"

#include <vector>

#include "core/quantise.h"
#include "core/rounding.h"

namespace liveavatar::reference {
namespace {

constexpr size_t kQ4BlockBytes = 2 + kQ4Block / 2;

void pack_row_q4(const float* values, int64_t k, std::byte* row) {
  for (int64_t first = 0; first < k; first += kQ4Block, row += kQ4BlockBytes) {
    uint8_t quantised[kQ4Block];
    std::fill_n(quantised, kQ4Block, kQ4Zero);
    bf16 scale = quantise_q4(values + first, std::min(kQ4Block, k - first), quantised);
    std::memcpy(row, &scale, 2);
    for (int64_t i = 0; i < kQ4Block; i += 2)
      row[2 + i / 2] = static_cast<std::byte>(quantised[i] | (quantised[i + 1] << 4));
  }
}

}  // namespace

size_t quantised_row_bytes(int64_t k, DType dtype) {
  if (is_8bit(dtype)) return sizeof(float) + static_cast<size_t>(round_up(k, 4));
  return static_cast<size_t>(ceil_div(k, kQ4Block)) * kQ4BlockBytes;
}

void pack_quantised(const Tensor& weight, DType dtype, void* target) {
  int64_t k = weight.dim(1);
  std::vector<float> values(static_cast<size_t>(k));
  for (int64_t n = 0; n < weight.dim(0); ++n) {
    std::byte* row = static_cast<std::byte*>(target) + static_cast<size_t>(n) * quantised_row_bytes(k, dtype);
    convert_to_f32(weight.slice(n, 1).address(), weight.dtype, values.data(), k);
    if (dtype == DType::kQ4) {
      pack_row_q4(values.data(), k, row);
    } else {
      float scale = quantise_8bit(values.data(), k, dtype, reinterpret_cast<uint8_t*>(row + sizeof(float)));
      std::memcpy(row, &scale, sizeof(scale));
    }
  }
}

void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) {
  int64_t k = quantised.dim(1);
  for (int64_t n = 0; n < quantised.dim(0); ++n) {
    std::byte* row = static_cast<std::byte*>(target) + static_cast<size_t>(n) * quantised_row_bytes(k, quantised.dtype);
    std::memcpy(row, &scales[static_cast<size_t>(n)], sizeof(float));
    std::memcpy(row + sizeof(float), static_cast<const std::byte*>(quantised.address()) + n * k,
                static_cast<size_t>(k));
  }
}

float quantised_value(const void* packed, DType dtype, int64_t row, int64_t k, int64_t columns) {
  const std::byte* at =
      static_cast<const std::byte*>(packed) + static_cast<size_t>(row) * quantised_row_bytes(columns, dtype);
  if (dtype != DType::kQ4) {
    float scale;
    std::memcpy(&scale, at, sizeof(scale));
    return scale * decode_8bit(dtype, static_cast<uint8_t>(at[sizeof(float) + static_cast<size_t>(k)]));
  }
  at += static_cast<size_t>(k / kQ4Block) * kQ4BlockBytes;
  bf16 scale;
  std::memcpy(&scale, at, sizeof(scale));
  int value = static_cast<int>(at[2 + k % kQ4Block / 2]) >> (k % 2 * 4) & 15;
  return to_f32(scale) * static_cast<float>(value - kQ4Zero);
}

}  // namespace liveavatar::reference
