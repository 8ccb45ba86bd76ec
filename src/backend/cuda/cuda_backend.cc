#include "backend/cuda/cuda_backend.h"

#include <cstring>

#include "backend/cuda/device_link.h"
#include "backend/cuda/weights.h"

namespace liveavatar::cuda {

std::string describe(const Card& card) {
  return card.name + ", sm_" + std::to_string(card.compute_capability) + ", " + std::to_string(card.multiprocessors) +
         " multiprocessors, " + std::to_string(card.memory_bytes >> 20) + " MiB";
}

Expected<std::unique_ptr<Backend>> CudaBackend::open(CudaDevice& device, const BackendOptions& options) {
  Budget* host = options.budget == nullptr ? nullptr : &options.budget->host();
  LA_ASSIGN_OR_RETURN(Staging staging, Staging::open(device, host));
  void* stream = nullptr;
  if (!device.check(device.runtime().create_stream(&stream), "creating a stream")) return device.status();
  return std::unique_ptr<Backend>(
      new CudaBackend(device, options, std::move(staging), StreamHandle(device.runtime(), stream)));
}

CudaBackend::CudaBackend(CudaDevice& device, const BackendOptions& options, Staging staging, StreamHandle stream)
    : device_(device),
      int8_products_(options.int8_products),
      staging_(std::move(staging)),
      stream_(std::move(stream)),
      events_(device),
      quantised_rows_(device, options.budget),
      linears_(device, options),
      convs_(device, options) {}

// Events and staging memory are in use until then.
CudaBackend::~CudaBackend() { device_.check(device_.runtime().synchronize(stream_.get()), "the end of work"); }

std::string CudaBackend::describe() const {
  std::string in_8bit;
  if (multiplies_8bit(DType::kI8)) in_8bit = "8-bit products of int8 weights, ";
  if (multiplies_8bit(DType::kF8E4M3)) in_8bit = "8-bit products of int8 and e4m3 weights, ";
  return cuda::describe(device_.runtime().card()) + "; own kernels: " + in_8bit +
         "bf16 products on tensor cores, the others in f32" + linears_.describe() + convs_.describe();
}

Expected<LinkChoice> CudaBackend::open_link(Group& stage) { return open_device_link(device_, stream_.get(), stage); }

size_t CudaBackend::link_bytes(int ranks) const {
  return ranks < 2 ? 0 : kLinkBytes + static_cast<size_t>(ranks - 1) * kLinkPeerBytes;
}

Status CudaBackend::reserve(const LargestOps& largest) {
  if (int8_products_) LA_RETURN_IF_ERROR(quantised_rows_.reserve(largest));
  LA_RETURN_IF_ERROR(linears_.reserve(largest.hot_linears, stream_.get()));
  return convs_.reserve(largest.hot_convs, stream_.get());
}

void CudaBackend::release_scratch() {
  quantised_rows_.release();
  linears_.release();
  convs_.release();
}

void CudaBackend::upload(const void* host, const Tensor& to) {
  staging_.upload(host, to.address(), to.bytes(), stream_.get());
}

void CudaBackend::download(const Tensor& from, void* host) {
  if (synchronize().ok() && device_.read(static_cast<const std::byte*>(from.address()), host, from.bytes()).ok())
    return;
  std::memset(host, 0, from.bytes());  // synchronize() says why
}

Status CudaBackend::synchronize() {
  device_.check(device_.runtime().synchronize(stream_.get()), "a kernel");
  return device_.status();
}

size_t CudaBackend::packed_linear_bytes(int64_t n, int64_t k, DType dtype) const { return packed_bytes(dtype, n, k); }

void CudaBackend::pack_linear(const Tensor& weight, DType dtype, void* target) const {
  pack_matrix(weight, dtype, static_cast<std::byte*>(target));
}

void CudaBackend::pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const {
  pack_quantised_matrix(quantised, scales, static_cast<std::byte*>(target));
}

size_t CudaBackend::packed_conv_bytes(const ConvWeight& shape) const {
  const PackedMatrix w = packed_matrix(shape);
  return packed_bytes(shape.dtype, w.n, w.k);
}

void CudaBackend::pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const {
  pack_conv_matrix(weight, shape, static_cast<std::byte*>(target));
}

}  // namespace liveavatar::cuda
