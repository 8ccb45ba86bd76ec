#include "backend/cuda/linear_by_library.h"

namespace liveavatar::cuda {
namespace {

// Whether a library does all of it. It adds a bias of the type of out, so that ours is rounded to bf16 like the sum.
bool is_fused(const LinearClass& c) {
  if (c.gate) return false;
  if (c.out == ElementType::kF32) return c.activation == Activation::kNone;
  return !c.residual && (c.activation == Activation::kNone || c.activation == Activation::kGeluTanh);
}

LibraryLinear product_of(const LinearCall& c, std::byte* scratch) {
  LibraryLinear product{};
  product.m = c.m;
  product.n = c.w.n;
  product.k = c.w.k;
  product.x = c.x.data;
  product.w = c.w.data;
  product.workspace = scratch;
  return product;
}

Status enqueue_fused(LinearLibrary& library, const LinearCall& c, std::byte* scratch, CudaDevice& device,
                     void* stream) {
  const EpilogueCall& e = c.epilogue;
  LibraryLinear all = product_of(c, scratch);
  all.bias = e.bias;
  all.activation = e.activation;
  all.residual = e.residual.data;
  all.out = c.out;
  if (e.bias != nullptr && c.out.type == ElementType::kBF16) {
    const Output rounded{scratch + kLibraryWorkspaceBytes, ElementType::kBF16};
    const ActivateCall round{{e.bias, ElementType::kF32}, c.w.n, Activation::kNone, rounded};
    device.check(device.runtime().kernels().activate(round, stream), "rounding a bias");
    all.bias = rounded.data;
  }
  return library.enqueue(all, stream);
}

}  // namespace

size_t library_scratch_bytes(const LinearClass& c) {
  if (is_fused(c)) return kLibraryWorkspaceBytes + static_cast<size_t>(c.n) * sizeof(uint16_t);
  return kLibraryWorkspaceBytes + static_cast<size_t>(c.m * c.n) * sizeof(float);
}

Status enqueue_by_library(LinearLibrary& library, const LinearClass& c, const LinearCall& call, std::byte* scratch,
                          CudaDevice& device, void* stream) {
  if (is_fused(c)) return enqueue_fused(library, call, scratch, device, stream);
  LibraryLinear product = product_of(call, scratch);
  product.out = {scratch + kLibraryWorkspaceBytes, ElementType::kF32};
  LA_RETURN_IF_ERROR(library.enqueue(product, stream));
  const FinishProductCall finish{static_cast<const float*>(product.out.data), c.m, c.n, call.epilogue, call.out};
  device.check(device.runtime().kernels().finish_product(finish, stream), "what follows a product");
  return {};
}

}  // namespace liveavatar::cuda
