#include "weights/loader.h"

#include <cmath>
#include <cstring>

namespace liveavatar {
namespace {

constexpr size_t kBlockBytes = 1 << 20;  // small tensors share blocks; large ones get their own

// Dimensions of size 1 carry no information: a kernel of 1x1 may be stored as [O, I], [O, I, 1] or [O, I, 1, 1].
Shape squeezed(const Shape& shape) {
  Shape out;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] != 1) out.push_back(shape[i]);
  }
  return out;
}

}  // namespace

WeightLoader::WeightLoader(const TensorSource& source, const Backend& backend, Budget& budget, Tenant tenant,
                           DType dtype)
    : source_(source), backend_(backend), budget_(budget), tenant_(tenant), dtype_(dtype) {}

void WeightLoader::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

bool WeightLoader::has(const std::string& name) const { return source_.tensors().contains(name); }

std::vector<float> WeightLoader::read_f32(const std::string& name, Shape shape) {
  std::vector<float> values;
  used_.insert(name);
  if (!status_.ok()) return values;
  auto it = source_.tensors().find(name);
  if (it == source_.tensors().end()) {
    fail(not_found(source_.where() + ": tensor " + name + " is missing; this is not the checkpoint it should be"));
    return values;
  }
  const TensorInfo& info = it->second;
  if (!(squeezed(info.shape) == squeezed(shape))) {
    fail(corrupt(source_.where() + ": tensor " + name + " has shape " + info.shape.str() + ", wanted " + shape.str()));
    return values;
  }
  std::vector<std::byte> raw(static_cast<size_t>(info.shape.elements()) * dtype_bytes(info.dtype));
  if (Status status = source_.read(name, raw.data()); !status.ok()) {
    fail(status);
    return values;
  }
  values.resize(static_cast<size_t>(shape.elements()));
  convert_to_f32(raw.data(), info.dtype, values.data(), shape.elements());
  for (float v : values) {
    if (!std::isfinite(v)) {
      fail(corrupt(source_.where() + ": tensor " + name + " holds NaN or infinity; download the file again"));
      break;
    }
  }
  return values;
}

void* WeightLoader::store(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  bool own_block = bytes > kBlockBytes / 4;
  if (!own_block && !buffers_.empty() && block_used_bytes_ + bytes <= kBlockBytes) {
    void* memory = buffers_.back().data() + block_used_bytes_;
    block_used_bytes_ += bytes;
    return memory;
  }
  auto buffer = Buffer::allocate(budget_, tenant_, own_block ? bytes : kBlockBytes);
  if (!buffer.ok()) {
    fail(buffer.status());
    return nullptr;
  }
  void* memory = buffer->data();
  if (own_block) {
    buffers_.insert(buffers_.begin(), *std::move(buffer));  // the open block stays last
    if (buffers_.size() == 1) block_used_bytes_ = kBlockBytes;
  } else {
    buffers_.push_back(*std::move(buffer));
    block_used_bytes_ = bytes;
  }
  return memory;
}

Tensor WeightLoader::keep(const std::vector<float>& values, Shape shape) {
  if (!status_.ok()) return {};
  void* memory = store(values.size() * sizeof(float));
  if (memory == nullptr) return {};
  std::memcpy(memory, values.data(), values.size() * sizeof(float));
  return {memory, shape, DType::kF32};
}

Tensor WeightLoader::vector(const std::string& name, Shape shape) { return keep(read_f32(name, shape), shape); }

LinearWeight WeightLoader::pack_linear(const float* weight, int64_t n, int64_t k, const Tensor& bias) {
  LinearWeight w;
  w.n = n;
  w.k = k;
  w.dtype = dtype_;
  w.bias = bias;
  if (!status_.ok()) return w;
  void* memory = store(backend_.packed_linear_bytes(n, k, dtype_));
  if (memory == nullptr) return w;
  backend_.pack_linear(Tensor(const_cast<float*>(weight), {n, k}, DType::kF32), dtype_, memory);
  w.data = memory;
  return w;
}

LinearWeight WeightLoader::matrix(const std::string& name, int64_t n, int64_t k) {
  auto it = source_.tensors().find(name);
  Shape shape{n, k};
  // Convolution kernels that are used as matrices keep their own shape; only the first dimension and the count must
  // fit.
  if (it != source_.tensors().end() && it->second.shape.rank() > 2 && it->second.shape[0] == n &&
      it->second.shape.elements() == n * k) {
    shape = it->second.shape;
  }
  std::vector<float> values = read_f32(name, shape);
  return pack_linear(values.data(), n, k, {});
}

LinearWeight WeightLoader::linear(const std::string& name, int64_t n, int64_t k, bool with_bias) {
  LinearWeight w = matrix(name + ".weight", n, k);
  if (with_bias) w.bias = vector(name + ".bias", {n});
  return w;
}

ConvWeight WeightLoader::pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias) {
  ConvWeight w = shape;
  w.dtype = dtype_;
  w.bias = bias;
  if (!status_.ok()) return w;
  void* memory = store(backend_.packed_conv_bytes(w));
  if (memory == nullptr) return w;
  backend_.pack_conv(weight_f32, w, memory);
  w.data = memory;
  return w;
}

ConvWeight WeightLoader::conv(const std::string& name, int64_t out_channels, int64_t in_channels,
                              std::array<int64_t, 3> kernel, int64_t groups, bool with_bias) {
  ConvWeight w;
  w.out_channels = out_channels;
  w.in_channels = in_channels;
  w.kernel = kernel;
  w.groups = groups;
  Shape shape{out_channels, in_channels / groups, kernel[0], kernel[1], kernel[2]};
  std::vector<float> values = read_f32(name + ".weight", shape);
  Tensor bias = with_bias ? vector(name + ".bias", {out_channels}) : Tensor();
  return pack_conv(Tensor(values.data(), shape, DType::kF32), w, bias);
}

Tensor WeightLoader::table(const std::string& name, int64_t rows, int64_t columns) {
  std::vector<float> values = read_f32(name, {rows, columns});
  if (!status_.ok()) return {};
  void* memory = store(values.size() * dtype_bytes(dtype_));
  if (memory == nullptr) return {};
  convert_from_f32(values.data(), memory, dtype_, rows * columns);
  return {memory, {rows, columns}, dtype_};
}

std::vector<std::string> WeightLoader::unused(std::initializer_list<const char*> ignored_prefixes) const {
  std::vector<std::string> names;
  for (const auto& [name, info] : source_.tensors()) {
    bool ignored = used_.contains(name);
    for (const char* prefix : ignored_prefixes) ignored = ignored || name.starts_with(prefix);
    if (!ignored) names.push_back(name);
  }
  return names;
}

}  // namespace liveavatar
