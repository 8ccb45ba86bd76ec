// Weights of every type in the form that kernels read, and what they stand for.
#pragma once

#include <cstring>
#include <optional>

#include "backend/cuda/kernels.h"
#include "core/quantise.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {

// A matrix [n, k]: kGroupRows rows of values, then the scales of these rows, and so on.
class PackedWeights {
 public:
  PackedWeights(const std::vector<float>& w, int64_t n, int64_t k, ElementType type)
      : values(w),
        n_(n),
        k_(k),
        type_(type),
        bytes_(size_t((n - 1) / kGroupRows * group_bytes() + last_group_bytes())) {
    for (int64_t row = 0; row < n; ++row) pack_row(row);
    on_device_.emplace(bytes_);
  }
  PackedMatrix matrix() const { return {on_device_->data(), type_, n_, k_, row_bytes(), group_bytes()}; }

  std::vector<float> values;  // [n, k]: what the packed ones stand for

 private:
  int64_t blocks() const { return (k_ + kQ4Block - 1) / kQ4Block; }
  int64_t row_bytes() const {
    const int64_t bits = type_ == ElementType::kF32 ? 32 : type_ == ElementType::kBF16 ? 16 : 8;
    const int64_t bytes = type_ == ElementType::kQ4 ? blocks() * kQ4Block / 2 : k_ * bits / 8;
    return (bytes + 15) / 16 * 16;
  }
  int64_t scale_bytes() const {  // of a row
    if (type_ == ElementType::kQ4) return blocks() * 2;
    return type_ == ElementType::kI8 || type_ == ElementType::kE4M3 ? 4 : 0;
  }
  int64_t group_bytes() const { return kGroupRows * (row_bytes() + scale_bytes()); }
  int64_t rows_of_group(int64_t group) const { return std::min(kGroupRows, n_ - group * kGroupRows); }
  int64_t last_group_bytes() const { return rows_of_group((n_ - 1) / kGroupRows) * (row_bytes() + scale_bytes()); }

  void pack_row(int64_t row) {
    const int64_t group = row / kGroupRows, in_group = row % kGroupRows;
    uint8_t* first = bytes_.data() + group * group_bytes();
    uint8_t* scales = first + rows_of_group(group) * row_bytes() + in_group * scale_bytes();
    pack_values(values.data() + row * k_, first + in_group * row_bytes(), scales);
  }
  void pack_values(float* row, uint8_t* packed, uint8_t* scales) {
    if (type_ == ElementType::kF32) {
      std::memcpy(packed, row, size_t(k_) * sizeof(float));
    } else if (type_ == ElementType::kBF16) {
      const std::vector<uint16_t> narrow = rounded({row, row + k_});
      std::memcpy(packed, narrow.data(), size_t(k_) * sizeof(uint16_t));
      for (int64_t c = 0; c < k_; ++c) row[c] = to_f32(liveavatar::bf16{narrow[size_t(c)]});
    } else if (type_ == ElementType::kQ4) {
      for (int64_t b = 0; b < blocks(); ++b) pack_block(row, b * kQ4Block, packed, scales + 2 * b);
    } else {
      const DType dtype = type_ == ElementType::kI8 ? DType::kI8 : DType::kF8E4M3;
      const float scale = quantise_8bit(row, k_, dtype, packed);
      std::memcpy(scales, &scale, sizeof(scale));
      for (int64_t c = 0; c < k_; ++c) row[c] = scale * decode_8bit(dtype, packed[c]);
    }
  }
  void pack_block(float* row, int64_t first, uint8_t* packed, uint8_t* scale_at) {
    const int64_t count = std::min(kQ4Block, k_ - first);
    uint8_t codes[kQ4Block];
    const liveavatar::bf16 scale = quantise_q4(row + first, count, codes);
    std::memcpy(scale_at, &scale, sizeof(scale));
    for (int64_t c = 0; c < count; ++c) {
      packed[(first + c) / 2] |= uint8_t(codes[c] << (c % 2 * 4));
      row[first + c] = to_f32(scale) * (float(codes[c]) - float(kQ4Zero));
    }
  }

  int64_t n_, k_;
  ElementType type_;
  std::vector<uint8_t> bytes_;
  std::optional<DeviceVector<uint8_t>> on_device_;
};

}  // namespace liveavatar::cuda::emulated
