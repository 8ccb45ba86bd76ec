// The CPU backend: the list of its ops. Matrix products (linear, convolution, attention) have classes of their own over
// a CpuContext, row by row ops are loops over the kernels, and layouts that are not hot are left to the reference
// backend.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cpu/context.h"
#include "backend/cpu/isa.h"

namespace liveavatar::cpu {

class CpuBackend : public Backend {
 public:
  CpuBackend(IsaChoice isa, const BackendOptions& options, std::unique_ptr<Backend> plain);
  std::string name() const override { return "cpu"; }
  std::string describe() const override;
  int threads() const override { return context_.threads(); }
  bool int8_products() const override { return context_.int8_products(); }
  bool rows_are_independent() const override { return true; }

  Event record() override { return {}; }  // an op is done when its call returns
  void wait(Event) override {}
  Status synchronize() override { return {}; }
  void upload(const void* host, const Tensor& to) override { plain_->upload(host, to); }
  void download(const Tensor& from, void* host) override { plain_->download(from, host); }

  Status reserve(const LargestOps& largest) override;
  void release_scratch() override { context_.release_scratch(); }
  size_t unreserved_bytes() const { return context_.unreserved_bytes(); }  // for tests

  std::string packing() const override;
  size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const override;
  void pack_linear(const Tensor& weight, DType dtype, void* target) const override;
  void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const override;
  size_t packed_conv_bytes(const ConvWeight& shape) const override;
  void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const override;

  void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) override;
  void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out, const Epilogue& e) override;
  void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                 const Tensor& out) override;
  void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                  const Tensor& out) override;
  void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) override;
  void channel_norm(const Tensor& x, const Tensor& gain, liveavatar::Activation activation, const Tensor& out) override;
  void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) override;
  void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) override;
  void multiply(const Tensor& x, const Tensor& y, const Tensor& out) override;
  void activate(const Tensor& x, liveavatar::Activation activation, const Tensor& out) override;
  void copy(const Tensor& x, const Tensor& out) override;

  void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) override { plain_->quantise(x, out, scale); }
  void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) override {
    plain_->dequantise(x, scale, out);
  }
  void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) override {
    plain_->copy_rows(x, out, rows, columns);
  }
  void fill(const Tensor& out, float value) override { plain_->fill(out, value); }
  void clamp(const Tensor& x, float low, float high, const Tensor& out) override { plain_->clamp(x, low, high, out); }
  void to_rgb8(const Tensor& x, const Tensor& out) override { plain_->to_rgb8(x, out); }
  void repeat_columns(const Tensor& x, const Tensor& out) override { plain_->repeat_columns(x, out); }
  void relative_bias(const Tensor& line, const Tensor& out) override { plain_->relative_bias(line, out); }
  void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    plain_->patchify(x, patch, out);
  }
  void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    plain_->unpatchify(x, patch, out);
  }
  void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    plain_->channels_last(x, scale, shift, out);
  }
  void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    plain_->channels_first(x, scale, shift, out);
  }

 private:
  IsaChoice isa_;
  CpuContext context_;
  std::unique_ptr<Backend> plain_;
};

}  // namespace liveavatar::cpu
