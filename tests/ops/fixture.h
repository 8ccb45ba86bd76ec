// A backend under test beside the reference, and operands for both.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "backend/backend.h"
#include "core/memory.h"
#include "devices.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "support/operands.h"

namespace liveavatar {

// Operands are made in host memory (operands_). on() takes them to a backend's device, host() brings results back.
class OpTest : public ::testing::TestWithParam<OpCase> {
 protected:
  void SetUp() override {
    source_ = device().source();
    if (source_ == nullptr) GTEST_SKIP() << "not in this build, or there is no card";
    budget_ = std::make_unique<Budget>(Budget::kUnlimited, source_->allocator(), host_budget_);
    reference_ = *make_backend("reference", {.threads = 2});
    auto backend = source_->open({.threads = 3});
    if (!backend.ok()) {
      ASSERT_TRUE(device().may_be_missing) << backend.status().message();
      GTEST_SKIP() << backend.status().message();
    }
    backend_ = *std::move(backend);
    one_thread_ = *source_->open({.threads = 1});
  }
  // Ops that are not done yet use operands.
  void TearDown() override {
    for (Backend* backend : {backend_.get(), one_thread_.get()}) {
      if (backend == nullptr) continue;
      EXPECT_TRUE(backend->synchronize().ok());
    }
  }

  const OpDevice& device() const { return *GetParam().device; }
  DType dtype() const { return GetParam().dtype; }
  // Of a result of that type. f32_times: where an op may be so many times less exact in f32.
  double tolerance(DType result, double f32_times = 1) const {
    return result == DType::kF32 ? device().f32_tolerance * f32_times : device().bf16_tolerance;
  }

  // Memory of the backend's device for a result, filled with NaNs.
  Tensor result(Backend& backend, Shape shape, DType type = DType::kF32) {
    Tensor nans = operands_.zeros(shape, type);
    std::memset(nans.address(), 0xff, nans.bytes());
    return copy_on(backend, nans);
  }
  // A tensor of the backend's device with the values of one of the host; where the device is the host the same tensor.
  Tensor on(Backend& backend, const Tensor& t) {
    return t.empty() || backend.device().is_host() ? t : copy_on(backend, t);
  }
  // As on(), but always in memory of its own.
  Tensor copy_on(Backend& backend, const Tensor& t) {
    Budget& budget = backend.device().is_host() ? host_budget_ : *budget_;
    tensors_.push_back(*OwnedTensor::allocate(budget, MemoryCategory::kRuntime, t.shape, t.dtype));
    const Tensor& copy = tensors_.back().tensor;
    ops::transfer(*reference_, t, backend, copy);
    return copy;
  }
  KeyValues on(Backend& b, const KeyValues& kv) {
    return {on(b, kv.k), on(b, kv.v), on(b, kv.k_scale), on(b, kv.v_scale)};
  }
  std::vector<KeyValues> on(Backend& b, std::span<const KeyValues> segments) {
    std::vector<KeyValues> there;
    for (const KeyValues& segment : segments) there.push_back(on(b, segment));
    return there;
  }
  AttentionSpec on(Backend& b, AttentionSpec spec) {
    spec.bias = on(b, spec.bias);
    return spec;
  }
  ConvGeometry on(Backend& b, ConvGeometry geometry) {
    geometry.history = on(b, geometry.history);
    return geometry;
  }
  Epilogue on(Backend& b, const Epilogue& e) { return {e.activation, on(b, e.gate), on(b, e.residual)}; }
  Modulation on(Backend& b, const Modulation& m) { return {on(b, m.shift), on(b, m.scale)}; }

  // The values of a result, once the ops before are done.
  Tensor host(Backend& backend, const Tensor& t) {
    if (backend.device().is_host()) return t;
    Tensor here = operands_.zeros(t.shape, t.dtype);
    const Download values(backend, t);
    std::memcpy(here.address(), values.tensor().address(), here.bytes());
    return here;
  }

  LinearWeight pack(Backend& backend, const Tensor& weight, const Tensor& bias) {
    LinearWeight w{.dtype = dtype(), .n = weight.dim(0), .k = weight.dim(1), .bias = on(backend, bias)};
    Tensor memory = operands_.zeros({static_cast<int64_t>(backend.packed_linear_bytes(w.n, w.k, w.dtype))}, DType::kU8);
    backend.pack_linear(weight, w.dtype, memory.address());
    w.data = on(backend, memory).address();
    return w;
  }
  ConvWeight pack(Backend& backend, const Tensor& weight, ConvWeight w) {
    w.dtype = dtype();
    w.bias = on(backend, w.bias);
    Tensor memory = operands_.zeros({static_cast<int64_t>(backend.packed_conv_bytes(w))}, DType::kU8);
    backend.pack_conv(weight, w, memory.address());
    w.data = on(backend, memory).address();
    return w;
  }

  // run(backend, out) with a result of that shape: its values on the host.
  template <typename Run>
  Tensor values_of(Backend& backend, Shape shape, DType type, Run&& run) {
    Tensor out = result(backend, shape, type);
    run(backend, out);
    return host(backend, out);
  }
  // Runs on all backends; the results must be equal for any thread count, and near the reference's.
  template <typename Run>
  void compare(Shape shape, DType out_dtype, double most, Run&& run) {
    Tensor want = values_of(*reference_, shape, out_dtype, run), got = values_of(*backend_, shape, out_dtype, run),
           single = values_of(*one_thread_, shape, out_dtype, run);
    EXPECT_LE(distance(got, want), most);
    EXPECT_TRUE(same_bits(got, single)) << "depends on the thread count";
  }
  template <typename Run>
  void compare(Shape shape, DType out_dtype, Run&& run) {
    compare(shape, out_dtype, GetParam().tolerance, run);
  }

  // Destroyed in reverse order: backends, then memory on the devices, then the devices.
  std::unique_ptr<DeviceSource> source_;
  Budget host_budget_;
  std::unique_ptr<Budget> budget_;
  Operands operands_;
  std::vector<OwnedTensor> tensors_;
  std::unique_ptr<Backend> backend_, one_thread_, reference_;
};

}  // namespace liveavatar
