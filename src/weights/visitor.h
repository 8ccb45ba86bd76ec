// A model describes its weights once: its weights.cc asks a visitor for each by name, in plain lines. The visitor reads
// and packs them, counts the memory of that, or looks at packed ones again (weights/loader.h). Errors stick: the model
// asks for all it wants and looks at status() once at the end.
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

  // What matrices are packed in. A model says which of its own are large.
  const WeightTypes& types() const { return types_; }

  // <name>.weight [n, k] and <name>.bias [n]; a convolution's kernel [n, ...] of as many elements will do.
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
  // The same in host memory, not packed and not charged: for the few that the host computes with. Zeros where nothing
  // is read.
  std::vector<float> host_vector(const std::string& name, Shape shape);

  // Building blocks for weights that are computed rather than read (weight norm).
  // The tensor, or its rows [first, first + count), as f32 in staging memory: valid until the next call that reads.
  // Where nothing is read, or after an error, it is empty.
  Tensor read_f32(const std::string& name, Shape shape) { return read_rows(name, shape, 0, shape[0]); }
  Tensor read_rows(const std::string& name, Shape shape, int64_t first, int64_t count);
  ConvWeight pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias);
  Tensor keep(const Tensor& values_f32);
  Tensor keep(const std::vector<float>& values, Shape shape);

  void fail(Status status);  // first one wins
  // ok, or the first thing that was missing, misshaped, not finite (NaN or infinity) or unreadable: tensor, file,
  // suggestion.
  const Status& status() const { return status_; }
  // What was asked for so far, in the shapes that were asked for.
  const std::map<std::string, Shape>& asked() const { return asked_; }

 protected:
  WeightVisitor(const Backend& backend, WeightTypes types) : backend_(backend), types_(types) {}

  // Rows of the tensor `name`, which is [shape], as f32.
  virtual Tensor read(const std::string& name, const Shape& shape, TensorPart rows) = 0;
  // Rows of the tensor `name`, a matrix [shape], packed as dtype. Returns where they lie: null where they cannot be
  // looked at.
  virtual std::byte* pack_matrix(const std::string& name, const Shape& shape, TensorPart rows, DType dtype) = 0;
  // What fill(host memory) makes of so many bytes. Returns where they lie.
  using Fill = std::function<void(std::byte* host)>;
  virtual std::byte* pack(size_t bytes, const Fill& fill) = 0;
  // Of what the last two return.
  virtual Device device() const = 0;

  const Backend& backend_;

 private:
  LinearWeight matrix_rows(const std::string& name, const Shape& shape, TensorPart rows, DType dtype);

  WeightTypes types_;
  Status status_;
  std::map<std::string, Shape> asked_;
};

}  // namespace liveavatar
