#include "weights/visitor.h"

#include <algorithm>
#include <cstring>

namespace liveavatar {

void WeightVisitor::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

Tensor WeightVisitor::read_rows(const std::string& name, Shape shape, int64_t first, int64_t count) {
  asked_.emplace(name, shape);
  return read(name, shape, {first, count});
}

Tensor WeightVisitor::keep(const Tensor& values_f32) {
  if (!status_.ok()) return {};
  auto copy = [&](std::byte* host) { std::memcpy(host, values_f32.host<float>(), values_f32.bytes()); };
  std::byte* memory = pack(values_f32.bytes(), copy);
  return {memory, values_f32.shape, DType::kF32, device()};
}

Tensor WeightVisitor::keep(const std::vector<float>& values, Shape shape) {
  return keep(Tensor(const_cast<float*>(values.data()), shape, DType::kF32));
}

std::vector<float> WeightVisitor::host_vector(const std::string& name, Shape shape) {
  Tensor values = read_f32(name, shape);
  std::vector<float> copy(static_cast<size_t>(shape.elements()));
  if (!values.empty()) std::copy_n(values.host<float>(), values.elements(), copy.begin());
  return copy;
}

LinearWeight WeightVisitor::matrix_rows(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) {
  asked_.emplace(name, shape);
  LinearWeight w;
  w.n = rows.count;
  w.k = shape.elements() / shape[0];
  w.dtype = dtype;
  w.data = pack_matrix(name, shape, rows, dtype);
  return w;
}

LinearWeight WeightVisitor::matrix(const std::string& name, int64_t n, int64_t k) {
  return matrix_rows(name, {n, k}, {0, n}, types_.values);
}

LinearWeight WeightVisitor::linear(const std::string& name, int64_t n, int64_t k, DType dtype) {
  LinearWeight w = matrix_rows(name + ".weight", {n, k}, {0, n}, dtype);
  w.bias = vector(name + ".bias", {n});
  return w;
}

LinearWeight WeightVisitor::linear_rows(const std::string& name, Shape shape, int64_t first, int64_t count) {
  LinearWeight w = matrix_rows(name + ".weight", shape, {first, count}, types_.values);
  w.bias = keep(read_rows(name + ".bias", {shape[0]}, first, count));
  return w;
}

ConvWeight WeightVisitor::pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias) {
  ConvWeight w = shape;
  w.dtype = types_.values;
  w.bias = bias;
  if (!status_.ok()) return w;
  auto fill = [&](std::byte* host) { backend_.pack_conv(weight_f32, w, host); };
  w.data = pack(backend_.packed_conv_bytes(w), fill);
  return w;
}

ConvWeight WeightVisitor::conv(const std::string& name, int64_t out_channels, int64_t in_channels,
                               std::array<int64_t, 3> kernel) {
  ConvWeight w;
  w.out_channels = out_channels;
  w.in_channels = in_channels;
  w.kernel = kernel;
  Tensor bias = vector(name + ".bias", {out_channels});
  Shape shape{out_channels, in_channels, kernel[0], kernel[1], kernel[2]};
  return pack_conv(read_f32(name + ".weight", shape), w, bias);
}

}  // namespace liveavatar
