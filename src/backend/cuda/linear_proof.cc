#include "backend/cuda/linear_proof.h"

#include <cmath>

#include "backend/cuda/linear_by_library.h"
#include "backend/cuda/trial.h"
#include "backend/cuda/weights.h"

namespace liveavatar::cuda {
namespace {

// Where the operands of a class lie in memory.
struct Operands {
  explicit Operands(const LinearClass& c)
      : x(layout.take(c.m * c.k, ElementType::kBF16)),
        w(layout.take(c.n * c.k, ElementType::kBF16)),
        bias(layout.take(c.n, ElementType::kF32)),
        gate(layout.take(c.n, ElementType::kF32)),
        out(layout.take(c.m * c.n, c.out)) {}
  OperandLayout layout;
  size_t x, w, bias, gate, out;
};

// Products near 1.
Status write_operands(const LinearClass& c, const Operands& at, CudaDevice& device, std::byte* memory) {
  const float scale = 3 / std::sqrt(static_cast<float>(c.k));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.x, c.m * c.k, ElementType::kBF16, 1, 1));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.w, c.n * c.k, ElementType::kBF16, 2, scale));
  LA_RETURN_IF_ERROR(write_pattern(device, memory + at.bias, c.n, ElementType::kF32, 3, 1));
  return write_pattern(device, memory + at.gate, c.n, ElementType::kF32, 4, 1);
}

LinearCall call_of(const LinearClass& c, const Operands& at, std::byte* memory) {
  LinearCall call{};
  call.x = {memory + at.x, ElementType::kBF16};
  call.w = packed_matrix(memory + at.w, DType::kBF16, c.n, c.k);
  call.m = c.m;
  call.epilogue.groups = 1;
  call.epilogue.activation = c.activation;
  if (c.bias) call.epilogue.bias = reinterpret_cast<const float*>(memory + at.bias);
  if (c.gate) call.epilogue.gate = reinterpret_cast<const float*>(memory + at.gate);
  if (c.residual) call.epilogue.residual = {memory + at.out, c.out};  // in place, as in a model
  call.out = {memory + at.out, c.out};
  call.large = has_large_blocks(c.m, c.n);
  return call;
}

}  // namespace

size_t proof_bytes(const LinearClass& c) { return Operands(c).layout.bytes(); }

LibraryChoice prove(const LinearClass& c, LinearLibrary& library, CudaDevice& device, void* stream, std::byte* memory,
                    std::byte* scratch) {
  const Operands at(c);
  const Status written = write_operands(c, at, device, memory);
  if (!written.ok()) return {describe(c), false, 0, 0, "not tried out: " + written.message()};
  const LinearCall call = call_of(c, at, memory);
  Trial trial{describe(c), call.out, c.m, c.n, c.residual, {}, {}};
  trial.own = [&] {
    device.check(device.runtime().kernels().linear_bf16(call, stream), "linear");
    return device.status();
  };
  trial.by_library = [&] { return enqueue_by_library(library, c, call, scratch, device, stream); };
  return try_out(trial, device, stream);
}

}  // namespace liveavatar::cuda
