// Reads every tensor of a source, whole, as f32 and as stored quantised values.
#pragma once

#include <vector>

#include "weights/tensor_source.h"

namespace liveavatar::fuzz {

inline void read_all(const TensorSource& source) {
  constexpr int64_t kMostElements = 1 << 20;  // strides of 0 make large tensors of small files
  for (const auto& [name, info] : source.tensors()) {
    int64_t elements = info.shape.elements();
    if (elements < 1 || elements > kMostElements) continue;
    std::vector<std::byte> raw(static_cast<size_t>(elements) * dtype_bytes(info.dtype));
    std::vector<float> values(static_cast<size_t>(elements));
    if (source.read(name, raw.data()).ok()) convert_to_f32(raw.data(), info.dtype, values.data(), elements);
    if (info.quantised == DType::kF32) continue;
    int64_t rows = info.shape[0];
    std::vector<uint8_t> codes(static_cast<size_t>(elements));
    std::vector<float> scales(static_cast<size_t>(rows));
    Status read = source.read_quantised(name, {0, rows}, codes.data(), scales.data());
    static_cast<void>(read.ok());
  }
}

}  // namespace liveavatar::fuzz
