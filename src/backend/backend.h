// A backend computes the op set on one device. Callers use the free functions of ops/*.h, which check shapes and call
// the backend. Guarantees of every backend:
//  * ops are done in the order of the calls; a call may return before the op is done, and its operands' memory is in
//    use until then (docs/devices.md);
//  * equal shapes and equal operands give equal bits, on any number of threads and after any other ops;
//  * products are summed in f32; f32 and bf16 operands mix freely; out may be f32 or bf16;
//  * ops allocate nothing: models reserve scratch for their largest ops before they run.
// Not thread-safe: one op at a time per backend object. wait() alone may be called by any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "backend/types.h"
#include "core/device.h"
#include "parallel/device_link.h"

namespace liveavatar {

class Budget;

class Backend : public WorkQueue {
 public:
  virtual std::string name() const = 0;
  virtual std::string describe() const = 0;  // the choices for this machine and the reasons; for `doctor`
  virtual int threads() const = 0;
  // Whether a row's bits never depend on the rows beside it: the same row among others gives the same result.
  virtual bool rows_are_independent() const = 0;
  virtual bool int8_products() const = 0;  // requested (BackendOptions), and supported here

  // Allocates the memory of operands, packed weights and scratch.
  virtual Allocator& allocator() const { return host_allocator(); }
  Device device() const { return allocator().device(); }
  // All values of a tensor, in order with the ops. `host` may be reused on return.
  virtual void upload(const void* host, const Tensor& to) = 0;
  // Waits for the ops before it.
  virtual void download(const Tensor& from, void* host) = 0;
  // Waits for all ops. Returns the device's first failure: results after it are undefined.
  virtual Status synchronize() = 0;

  // Messages between this backend's device and those of the stage's other ranks, which all call it at the same point.
  // It dies before the backend. An error: the group has failed.
  virtual Expected<LinkChoice> open_link(Group& stage) {
    return decline_link(stage, "its backend has no messages between devices");
  }

  // Device memory that such messages between so many ranks take at most, and which is not in the allocator. 0: there
  // are none.
  virtual size_t link_bytes(int) const { return 0; }

  // Allocates scratch for ops up to these sizes, charged to the budget, for the life of the backend. A larger op still
  // works, with memory outside the budget.
  virtual Status reserve(const LargestOps& largest) = 0;
  // Once for each reserve() of hot_convs, when they are not called any more: after the last one their scratch goes
  // back.
  virtual void end_hot_convs() {}
  // Frees it, when no op is running: a later job has the memory that the first one had.
  virtual void release_scratch() = 0;

  // Names the packed form of weights: backends that give the same name read each other's packed bytes.
  virtual std::string packing() const = 0;

  // Packed weights. `weight` and `target` are host memory; the loader copies it to the device. Row-major [N, K] or [O,
  // I / groups, frames, rows, columns], f32 or bf16; `target` has packed_*_bytes bytes, 64-byte aligned. Rounds to
  // `dtype` once: kF32 or kBF16, a linear weight also to kI8, kF8E4M3 or kQ4 (core/quantise.h). A linear weight may be
  // packed in parts of whole multiples of kPackRows rows: rows from r on go to target + packed_linear_bytes(r, k).
  static constexpr int64_t kPackRows = 64;
  virtual size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const = 0;
  virtual void pack_linear(const Tensor& weight, DType dtype, void* target) const = 0;
  // Rows that are already quantised, [n, k] kI8 (-127..127) or kF8E4M3, and their scales. The same packed form as
  // pack_linear gives for these values.
  virtual void pack_prequantised(const Tensor& quantised, std::span<const float> scales, void* target) const = 0;
  virtual size_t packed_conv_bytes(const ConvWeight& shape) const = 0;
  virtual void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const = 0;

  virtual void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) = 0;
  virtual void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out,
                    const Epilogue& e) = 0;
  virtual void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                         const Tensor& out) = 0;
  virtual void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                          const Tensor& out) = 0;
  virtual void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) = 0;
  virtual void channel_norm(const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) = 0;
  virtual void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) = 0;
  virtual void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) = 0;
  virtual void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) = 0;
  virtual void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) = 0;
  virtual void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) = 0;
  virtual void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) = 0;
  virtual void multiply(const Tensor& x, const Tensor& y, const Tensor& out) = 0;
  virtual void activate(const Tensor& x, Activation activation, const Tensor& out) = 0;
  virtual void copy(const Tensor& x, const Tensor& out) = 0;
  virtual void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) = 0;
  virtual void fill(const Tensor& out, float value) = 0;
  virtual void clamp(const Tensor& x, float low, float high, const Tensor& out) = 0;
  virtual void to_rgb8(const Tensor& x, const Tensor& out) = 0;
  virtual void repeat_columns(const Tensor& x, const Tensor& out) = 0;
  virtual void relative_bias(const Tensor& line, const Tensor& out) = 0;
  virtual void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) = 0;
  virtual void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) = 0;
};

struct BackendOptions {
  int threads = 0;  // 0: all this process may use
  std::string isa;  // empty: the best; else force avx2|avx512|avx512bf16|amx (env LIVEAVATAR_ISA when empty)
  // W8A8: products with int8 weights quantise activations to 8 bits row by row, and attention that allows it
  // (AttentionSpec) has 8-bit operands, if the CPU supports it (AVX512-BF16 with VNNI, or AMX). Up to twice as fast,
  // with an error of 1 to 2% (docs/quantisation.md). Otherwise int8 values are unpacked to bf16. A CUDA card has such
  // products, from sm_89 on of e4m3 weights, too; its attention stays in bf16.
  bool int8_products = false;
  // Of a CUDA card: what a model names (LargestOps::hot_linears, hot_convs) is computed by a library where it is right
  // and quicker than the own kernels, which is found out before the first block. What was found is kept in
  // choices_file; empty: it is not.
  bool tune = false;
  std::string choices_file;
  Budget* budget = nullptr;  // scratch is charged here (MemoryCategory::kRuntime); must outlive the backend
};

}  // namespace liveavatar
