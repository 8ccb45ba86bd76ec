// The ops on a CUDA device: each becomes one launch, enqueued on one stream. Over any Runtime (runtime.h).
#pragma once

#include "backend/backend.h"
#include "backend/cuda/event_queue.h"
#include "backend/cuda/library_ops.h"
#include "backend/cuda/quantised_rows.h"
#include "backend/cuda/staging.h"

namespace liveavatar::cuda {

class CudaBackend final : public Backend {
 public:
  // The device outlives the backend.
  static Expected<std::unique_ptr<Backend>> open(CudaDevice& device, const BackendOptions& options);
  ~CudaBackend() override;

  std::string name() const override { return "cuda"; }
  std::string describe() const override;
  int threads() const override { return 1; }
  // Every kernel of ours sums a row in one order; a library chooses by the number of rows.
  bool rows_are_independent() const override { return !linears_.in_use() && !convs_.in_use(); }
  bool int8_products() const override { return int8_products_; }

  // What reserve() found out of ops that a library may compute.
  const std::vector<LibraryChoice>& linear_choices() const { return linears_.choices(); }
  const std::vector<LibraryChoice>& conv_choices() const { return convs_.choices(); }

  Allocator& allocator() const override { return device_; }
  Event record() override { return events_.record(stream_.get()); }
  void wait(Event event) override { events_.wait(event); }
  void upload(const void* host, const Tensor& to) override;
  void download(const Tensor& from, void* host) override;
  Status synchronize() override;

  // By NCCL (device_link.h).
  Expected<LinkChoice> open_link(Group& stage) override;
  size_t link_bytes(int ranks) const override;

  // Kernels work in shared memory and registers: scratch is for activations in 8 bits and for libraries.
  Status reserve(const LargestOps& largest) override;
  void end_hot_convs() override { convs_.end_use(); }
  void release_scratch() override;

  std::string packing() const override { return "cuda.1"; }
  size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const override;
  void pack_linear(const Tensor& weight, DType dtype, void* target) const override;
  void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const override;
  size_t packed_conv_bytes(const ConvWeight& shape) const override;
  void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const override;

  // cuda_products.cc
  void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) override;
  void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out, const Epilogue& e) override;
  void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                 const Tensor& out) override;

  // cuda_ops.cc
  void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                  const Tensor& out) override;
  void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) override;
  void channel_norm(const Tensor& x, const Tensor& gain, liveavatar::Activation activation, const Tensor& out) override;
  void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) override;
  void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override;
  void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override;
  void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override;
  void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override;
  void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) override;
  void multiply(const Tensor& x, const Tensor& y, const Tensor& out) override;
  void activate(const Tensor& x, liveavatar::Activation activation, const Tensor& out) override;
  void copy(const Tensor& x, const Tensor& out) override;
  void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) override;
  void fill(const Tensor& out, float value) override;
  void clamp(const Tensor& x, float low, float high, const Tensor& out) override;
  void to_rgb8(const Tensor& x, const Tensor& out) override;
  void repeat_columns(const Tensor& x, const Tensor& out) override;
  void relative_bias(const Tensor& line, const Tensor& out) override;
  void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) override;
  void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) override;

 private:
  CudaBackend(CudaDevice& device, const BackendOptions& options, Staging staging, StreamHandle stream);

  // Launches a kernel of the table, unless the device has failed.
  template <typename Call>
  void run(int (*Kernels::*launch)(const Call&, void*), const Call& call, const char* name);
  bool multiplies_8bit(DType weights) const;
  void linear_8bit(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e);
  void run_transpose(const Tensor& x, const Modulation& m, bool channels_last, const Tensor& out);

  CudaDevice& device_;
  bool int8_products_;
  Staging staging_;
  StreamHandle stream_;
  EventQueue events_;
  QuantisedRows quantised_rows_;
  LibraryOps<LinearKind> linears_;
  LibraryOps<ConvKind> convs_;
};

// Arguments of calls.
Input input(const Tensor& t);
Output output(const Tensor& t);
const float* floats(const Tensor& t);  // null if absent
Activation activation_of(liveavatar::Activation activation);

template <typename Call>
void CudaBackend::run(int (*Kernels::*launch)(const Call&, void*), const Call& call, const char* name) {
  if (device_.failed()) return;
  device_.check((device_.runtime().kernels().*launch)(call, stream_.get()), name);
}

}  // namespace liveavatar::cuda
