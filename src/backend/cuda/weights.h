// The packed form of weights on CUDA devices: PackedMatrix in kernels.h says how the bytes lie.
#pragma once

#include <cstddef>
#include <span>

#include "backend/cuda/kernels.h"
#include "backend/types.h"

namespace liveavatar::cuda {

ElementType element_type(DType type);  // of values or weights; asserts that kernels know it

// A view of packed weights [n, k] in device memory.
PackedMatrix packed_matrix(const void* data, DType type, int64_t n, int64_t k);
PackedMatrix packed_matrix(const LinearWeight& w);
PackedMatrix packed_matrix(const ConvWeight& w);  // [out channels, frames * rows * columns * channels of a group]

size_t packed_bytes(DType type, int64_t n, int64_t k);

// Host memory to host memory. weight [n, k] f32 or bf16.
void pack_matrix(const Tensor& weight, DType type, std::byte* target);
// quantised [n, k] kI8 or kF8E4M3, scales [n].
void pack_quantised_matrix(const Tensor& quantised, std::span<const float> scales, std::byte* target);
// weight [O, I / groups, frames, rows, columns] f32 or bf16.
void pack_conv_matrix(const Tensor& weight, const ConvWeight& shape, std::byte* target);

}  // namespace liveavatar::cuda
