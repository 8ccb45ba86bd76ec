// A model describes its weights once: its weights.cc requests each by name from a visitor. The visitor reads and packs
// them, counts the memory of that, or makes views of packed weights (weights/loader.h). The first error is kept: the
// model requests all weights and checks status() once at the end.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "weights/tensor_source.h"

namespace liveavatar {

class WeightVisitor {
 public:
  virtual ~WeightVisitor() = default;
  WeightVisitor(const WeightVisitor&) = delete;
  WeightVisitor& operator=(const WeightVisitor&) = delete;

  // Types of packed matrices. The model says which of its matrices are large.
  const WeightTypes& types() const { return types_; }

  // <name>.weight [n, k] and <name>.bias [n]; a convolution's kernel [n, ...] of equally many elements is accepted.
  LinearWeight linear(const std::string& name, int64_t n, int64_t k) { return linear(name, n, k, types_.values); }
  LinearWeight linear(const std::string& name, int64_t n, int64_t k, DType dtype);
  // The same for the tensor `name` (full name), no bias.
  LinearWeight matrix(const std::string& name, int64_t n, int64_t k);
  // Rows [first, first + count) of <name>.weight [rows, k] and of <name>.bias [rows], as a matrix of their own.
  LinearWeight linear_rows(const std::string& name, Shape shape, int64_t first, int64_t count);
  // <name>.weight [O, I, kernel...] (kernel dims of size 1 may be absent) and <name>.bias [O].
  ConvWeight conv(const std::string& name, int64_t out_channels, int64_t in_channels, std::array<int64_t, 3> kernel);
  // The tensor `name` (full name) as f32 with exactly this shape. 1-sized dims are ignored in the check.
  Tensor vector(const std::string& name, Shape shape) { return keep(read_f32(name, shape)); }
  // The same in host memory, not packed and not charged: for the few that the host computes with. Zeros if the visitor
  // reads nothing.
  std::vector<float> host_vector(const std::string& name, Shape shape);

  // Building blocks for weights that are computed rather than read (weight norm).
  // The tensor, or its rows [first, first + count), as f32 in staging memory: valid until the next call that reads.
  // Empty if the visitor reads nothing, or after an error.
  Tensor read_f32(const std::string& name, Shape shape) { return read_rows(name, shape, 0, shape[0]); }
  Tensor read_rows(const std::string& name, Shape shape, int64_t first, int64_t count);
  ConvWeight pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias);
  Tensor keep(const Tensor& values_f32);
  Tensor keep(const std::vector<float>& values, Shape shape);

  void fail(Status status);  // keeps the first
  // ok, or the first error: a tensor is missing, misshaped, not finite (NaN or infinity) or unreadable. The message has
  // the tensor, the file and a suggestion.
  const Status& status() const { return status_; }
  // Names and shapes that were requested so far.
  const std::map<std::string, Shape>& asked() const { return asked_; }

 protected:
  WeightVisitor(const Backend& backend, WeightTypes types) : backend_(backend), types_(types) {}

  // Rows of the tensor `name`, which is [shape], as f32.
  virtual Tensor read(const std::string& name, const Shape& shape, TensorPart rows) = 0;
  // Rows of the tensor `name`, a matrix [shape], packed as dtype. Returns their address, or null if they have none.
  virtual std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) = 0;
  // `bytes` that fill(host memory) writes. Returns their address.
  using Fill = std::function<void(std::byte* host)>;
  virtual std::byte* pack(size_t bytes, const Fill& fill) = 0;
  // The device of these addresses.
  virtual Device device() const = 0;

  const Backend& backend_;

 private:
  LinearWeight matrix_rows(const std::string& name, const Shape& shape, TensorPart rows, DType dtype);

  WeightTypes types_;
  Status status_;
  std::map<std::string, Shape> asked_;
};

}  // namespace liveavatar
