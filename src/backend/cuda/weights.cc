#include "backend/cuda/weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/quantise.h"
#include "core/rounding.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kRowAlignment = 16;  // bytes: a thread copies as much at once

int64_t row_bytes(DType type, int64_t k) {
  if (type == DType::kQ4) return ceil_div(k, kQ4Block) * (kQ4Block / 2);
  return round_up(k * static_cast<int64_t>(dtype_bytes(type)), kRowAlignment);
}
int64_t scale_bytes(DType type, int64_t k) {
  if (type == DType::kQ4) return ceil_div(k, kQ4Block) * static_cast<int64_t>(sizeof(bf16));
  return is_8bit(type) ? static_cast<int64_t>(sizeof(float)) : 0;
}
// Of a group with so many rows.
int64_t group_bytes(DType type, int64_t rows, int64_t k) {
  return round_up(rows * (row_bytes(type, k) + scale_bytes(type, k)), kRowAlignment);
}

// Where rows go in packed memory.
class PackedRows {
 public:
  PackedRows(DType type, int64_t n, int64_t k, std::byte* target) : type_(type), n_(n), k_(k), target_(target) {}
  std::byte* values(int64_t row) const { return group(row) + row % kGroupRows * row_bytes(type_, k_); }
  std::byte* scales(int64_t row) const {
    const int64_t rows = std::min(kGroupRows, n_ - row / kGroupRows * kGroupRows);  // of the group
    return group(row) + rows * row_bytes(type_, k_) + row % kGroupRows * scale_bytes(type_, k_);
  }

 private:
  std::byte* group(int64_t row) const { return target_ + row / kGroupRows * group_bytes(type_, kGroupRows, k_); }

  DType type_;
  int64_t n_, k_;
  std::byte* target_;
};

void pack_q4(std::span<const float> values, std::byte* nibbles, std::byte* scales) {
  const int64_t k = static_cast<int64_t>(values.size());
  for (int64_t first = 0; first < k; first += kQ4Block) {
    uint8_t quantised[kQ4Block];
    std::fill_n(quantised, kQ4Block, kQ4Zero);
    const bf16 scale = quantise_q4(&values[static_cast<size_t>(first)], std::min(kQ4Block, k - first), quantised);
    std::memcpy(scales, &scale, sizeof scale);
    scales += sizeof scale;
    for (int64_t i = 0; i < kQ4Block; i += 2) *nibbles++ = static_cast<std::byte>(quantised[i] | quantised[i + 1] << 4);
  }
}

void pack_row(std::span<const float> values, const PackedRows& rows, DType type, int64_t row) {
  const int64_t k = static_cast<int64_t>(values.size());
  std::byte* to = rows.values(row);
  if (type == DType::kQ4) return pack_q4(values, to, rows.scales(row));
  if (is_8bit(type)) {
    const float scale = quantise_8bit(values.data(), k, type, reinterpret_cast<uint8_t*>(to));
    std::memcpy(rows.scales(row), &scale, sizeof scale);
  } else {
    convert_from_f32(values.data(), to, type, k);
  }
  const int64_t used = k * static_cast<int64_t>(dtype_bytes(type));
  std::memset(to + used, 0, static_cast<size_t>(row_bytes(type, k) - used));
}

int64_t taps(const ConvWeight& w) { return w.kernel[0] * w.kernel[1] * w.kernel[2]; }
int64_t conv_k(const ConvWeight& w) { return taps(w) * (w.in_channels / w.groups); }

}  // namespace

ElementType element_type(DType type) {
  switch (type) {
    case DType::kF32:
      return ElementType::kF32;
    case DType::kBF16:
      return ElementType::kBF16;
    case DType::kI8:
      return ElementType::kI8;
    case DType::kF8E4M3:
      return ElementType::kE4M3;
    case DType::kQ4:
      return ElementType::kQ4;
    default:
      LA_CHECK(false);
      return ElementType::kF32;
  }
}

PackedMatrix packed_matrix(const void* data, DType type, int64_t n, int64_t k) {
  return {data, element_type(type), n, k, row_bytes(type, k), group_bytes(type, kGroupRows, k)};
}
PackedMatrix packed_matrix(const LinearWeight& w) { return packed_matrix(w.data, w.dtype, w.n, w.k); }
PackedMatrix packed_matrix(const ConvWeight& w) { return packed_matrix(w.data, w.dtype, w.out_channels, conv_k(w)); }

size_t packed_bytes(DType type, int64_t n, int64_t k) {
  return static_cast<size_t>(n / kGroupRows * group_bytes(type, kGroupRows, k) + group_bytes(type, n % kGroupRows, k));
}

void pack_matrix(const Tensor& weight, DType type, std::byte* target) {
  const int64_t n = weight.dim(0), k = weight.dim(1);
  const PackedRows rows(type, n, k, target);
  std::vector<float> values(static_cast<size_t>(k));
  for (int64_t row = 0; row < n; ++row) {
    convert_to_f32(weight.slice(row, 1).address(), weight.dtype, values.data(), k);
    pack_row(values, rows, type, row);
  }
}

void pack_quantised_matrix(const Tensor& quantised, std::span<const float> scales, std::byte* target) {
  const int64_t n = quantised.dim(0), k = quantised.dim(1);
  const PackedRows rows(quantised.dtype, n, k, target);
  for (int64_t row = 0; row < n; ++row) {
    std::byte* to = rows.values(row);
    std::memcpy(to, quantised.slice(row, 1).address(), static_cast<size_t>(k));
    std::memset(to + k, 0, static_cast<size_t>(row_bytes(quantised.dtype, k) - k));
    std::memcpy(rows.scales(row), &scales[static_cast<size_t>(row)], sizeof(float));
  }
}

void pack_conv_matrix(const Tensor& weight, const ConvWeight& shape, std::byte* target) {
  const int64_t k = conv_k(shape), channels = shape.in_channels / shape.groups;
  const PackedRows rows(shape.dtype, shape.out_channels, k, target);
  std::vector<float> values(static_cast<size_t>(k)), ordered(values.size());
  for (int64_t row = 0; row < shape.out_channels; ++row) {
    convert_to_f32(weight.slice(row, 1).address(), weight.dtype, values.data(), k);
    for (int64_t c = 0; c < channels; ++c) {  // channels, taps -> taps, channels
      for (int64_t tap = 0; tap < taps(shape); ++tap)
        ordered[static_cast<size_t>(tap * channels + c)] = values[static_cast<size_t>(c * taps(shape) + tap)];
    }
    pack_row(ordered, rows, shape.dtype, row);
  }
}

}  // namespace liveavatar::cuda
