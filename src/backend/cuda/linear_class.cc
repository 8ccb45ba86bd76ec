#include "backend/cuda/linear_class.h"

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/weights.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kAlignment = 16;  // bytes
constexpr int64_t kColumnStep = kAlignment / 2;

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % kAlignment == 0; }

bool has_whole_vectors(int64_t n, int64_t k) { return n % kColumnStep == 0 && k % kColumnStep == 0; }

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh:
      return ", gelu_tanh";
    case Activation::kGeluErf:
      return ", gelu_erf";
    case Activation::kSilu:
      return ", silu";
    case Activation::kRelu:
      return ", relu";
    case Activation::kNone:
      break;
  }
  return "";
}

}  // namespace

std::optional<LinearClass> library_class(const LinearSize& s) {
  if (s.x != DType::kBF16 || s.weights != DType::kBF16 || !has_whole_vectors(s.n, s.k)) return {};
  return LinearClass{s.rows, s.n, s.k, element_type(s.out), activation_of(s.activation), true, s.gate, s.residual};
}

std::optional<LinearClass> library_class(const LinearCall& c) {
  const EpilogueCall& e = c.epilogue;
  const bool is_bf16 = c.x.type == ElementType::kBF16 && c.w.type == ElementType::kBF16;
  if (!is_bf16 || !has_whole_vectors(c.w.n, c.w.k) || e.groups != 1) return {};
  if (e.residual.data != nullptr && e.residual.type != c.out.type) return {};
  for (const void* data :
       {c.x.data, c.w.data, e.residual.data, static_cast<const void*>(e.bias), static_cast<const void*>(c.out.data)})
    if (!is_aligned(data)) return {};
  return LinearClass{
      c.m, c.w.n, c.w.k, c.out.type, e.activation, e.bias != nullptr, e.gate != nullptr, e.residual.data != nullptr};
}

std::string describe(const LinearClass& c) {
  return "linear " + std::to_string(c.m) + " x " + std::to_string(c.k) + " -> " + std::to_string(c.n) + ", out " +
         (c.out == ElementType::kF32 ? "f32" : "bf16") + (c.bias ? ", bias" : "") + name_of(c.activation) +
         (c.gate ? ", gate" : "") + (c.residual ? ", residual" : "");
}

}  // namespace liveavatar::cuda
