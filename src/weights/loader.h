// Takes tensors by name out of a source, checks them and packs them for a backend. Errors stick: a model asks for all
// it wants in plain lines and looks at status() once at the end.
#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/memory.h"
#include "weights/tensor_source.h"

namespace liveavatar {

class WeightLoader {
 public:
  // types: of the packed matrices. Packed bytes are charged to tenant, and the source's scratch while the loader lives.
  // All three outlive the loader; source may die after loading, backend and budget must outlive the WeightStore.
  WeightLoader(const TensorSource& source, const Backend& backend, Budget& budget, Tenant tenant, WeightTypes types)
      : WeightLoader(&source, backend, budget, tenant, types) {
    charge_scratch(source.scratch_bytes());
  }
  // Without a source it measures: budget only counts (Budget::Measuring), every tensor is taken to be there in the
  // shape that is asked for, nothing is read or packed, and what is handed out has shapes and no data. scratch_bytes:
  // of the source that would be read.
  WeightLoader(const Backend& backend, Budget& budget, Tenant tenant, WeightTypes types, size_t scratch_bytes = 0)
      : WeightLoader(nullptr, backend, budget, tenant, types) {
    charge_scratch(scratch_bytes);
  }

  // <name>.weight [n, k] (any leading 1-sized or conv-kernel dims folded: element count n * k) and, if with_bias,
  // <name>.bias [n].
  LinearWeight linear(const std::string& name, int64_t n, int64_t k, bool with_bias = true);
  // As linear with a bias, for the matrices that are most of a model: they may be quantised (backend/backend.h).
  LinearWeight large_linear(const std::string& name, int64_t n, int64_t k);
  // As linear, the matrix being exactly the tensor `name` (no suffix), no bias.
  LinearWeight matrix(const std::string& name, int64_t n, int64_t k);
  // Rows [first, first + count) of <name>.weight [rows, k] and of <name>.bias [rows], as a matrix of their own.
  LinearWeight linear_rows(const std::string& name, Shape shape, int64_t first, int64_t count);
  // <name>.weight [O, I / groups, kernel...] (kernel dims of size 1 may be absent) and optional <name>.bias.
  ConvWeight conv(const std::string& name, int64_t out_channels, int64_t in_channels, std::array<int64_t, 3> kernel,
                  int64_t groups = 1, bool with_bias = true);
  // The tensor `name` (full name) as f32 with exactly this shape. Leading and trailing 1-sized dims are ignored in the
  // check.
  Tensor vector(const std::string& name, Shape shape);
  // The same in host memory, not packed and not charged: for the few that the host computes with.
  std::vector<float> host_vector(const std::string& name, Shape shape);

  // Building blocks for weights that are computed rather than read (weight norm). Measuring, the tensors read are
  // empty.
  bool measuring() const { return source_ == nullptr; }
  bool has(const std::string& name) const;
  // The tensor, or its rows [first, first + count), as f32 in the loader's staging memory: valid until the next call of
  // any function that reads. Empty after an error.
  Tensor read_f32(const std::string& name, Shape shape) { return read_rows(name, shape, 0, shape[0]); }
  Tensor read_rows(const std::string& name, Shape shape, int64_t first, int64_t count);
  ConvWeight pack_conv(const Tensor& weight_f32, const ConvWeight& shape, const Tensor& bias);
  Tensor keep(const Tensor& values_f32);
  Tensor keep(const std::vector<float>& values, Shape shape);

  // From here on what is kept lies from `base` (64-byte aligned) on, piece behind piece, instead of in memory of its
  // own: a page of a packed file. Measuring, with the base of a page that was filled so before: its views again.
  void place_at(std::byte* base, Device device = {}) {
    base_ = base;
    base_device_ = device;
    placing_ = true;
    placed_bytes_ = 0;
  }
  size_t placed_bytes() const { return placed_bytes_; }

  void fail(Status status);  // first one wins
  // ok, or the first thing that was missing, misshaped, not finite (NaN or infinity) or unreadable: tensor, file, cure.
  const Status& status() const { return status_; }
  // What was asked for so far, in the shapes that were asked for.
  const std::map<std::string, Shape>& asked() const { return used_; }
  // Names in the source that nobody asked for, except those with one of these prefixes. For `info` and warnings.
  std::vector<std::string> unused(std::initializer_list<const char*> ignored_prefixes = {}) const;

  // The memory of everything handed out; move it into the model.
  std::vector<Buffer> take_buffers() { return std::move(buffers_); }

 private:
  WeightLoader(const TensorSource* source, const Backend& backend, Budget& budget, Tenant tenant, WeightTypes types)
      : source_(source), backend_(backend), budget_(budget), tenant_(tenant), types_(types) {}
  void charge_scratch(size_t bytes);
  void* store(size_t bytes);
  Device device() const { return placing_ ? base_device_ : budget_.device(); }
  // fill(host) makes `bytes` that are to lie at `memory`: there, or in host memory from where they are written.
  template <typename Fill>
  void put(void* memory, size_t bytes, const Fill& fill);
  bool stage(int64_t elements, int64_t piece);
  bool grow(Buffer& memory, size_t bytes);
  bool check(const std::string& name, const Shape& shape);
  LinearWeight pack_rows(const std::string& name, const Shape& shape, TensorPart rows, DType dtype);
  bool pack_stored_codes(const std::string& name, TensorPart rows, int64_t k, std::byte* target);

  const TensorSource* source_;
  const Backend& backend_;
  Budget& budget_;
  Tenant tenant_;
  WeightTypes types_;
  Status status_;
  std::map<std::string, Shape> used_;
  std::vector<Buffer> buffers_;
  size_t block_used_bytes_ = 0;
  std::byte* base_ = nullptr;
  Device base_device_;
  bool placing_ = false;
  size_t placed_bytes_ = 0;
  Charge scratch_;  // of the source
  Buffer packing_;  // what is on its way to a device that is not the host
  Buffer staging_;  // host memory: f32 values, and behind them the raw bytes of one piece
};

}  // namespace liveavatar
