// A backend under test beside the reference, and random operands for both.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "backend/backend.h"
#include "core/memory.h"
#include "ops/make_backend.h"

namespace liveavatar {

struct Case {
  std::string isa;
  DType dtype;
};

inline std::string isa_name(std::string isa) {
  std::replace(isa.begin(), isa.end(), '-', '_');
  return isa;
}
inline std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return isa_name(info.param.isa) + (info.param.dtype == DType::kF32 ? "_f32" : "_bf16");
}

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* isa : {"avx2", "avx512", "avx512bf16", "amx", "amx-model"}) {
    for (DType t : {DType::kF32, DType::kBF16}) cases.push_back({isa, t});
  }
  return cases;
}

// Memory that lives as long as the test.
class Operands {
 public:
  explicit Operands(uint32_t seed = 1) : random_(seed) {}
  Tensor zeros(Shape shape, DType dtype = DType::kF32) {
    auto owned = OwnedTensor::allocate(budget_, Tenant::kRuntime, shape, dtype);
    tensors_.push_back(*std::move(owned));
    return tensors_.back().tensor;
  }
  Tensor normal(Shape shape, DType dtype = DType::kF32, float scale = 1.0f) {
    Tensor t = zeros(shape, dtype);
    std::normal_distribution<float> normal(0, scale);
    for (int64_t i = 0; i < t.elements(); ++i) {
      float v = normal(random_);
      convert_from_f32(&v, static_cast<char*>(t.address()) + static_cast<size_t>(i) * dtype_bytes(dtype), dtype, 1);
    }
    return t;
  }
  Tensor like(const Tensor& other) {
    Tensor t = zeros(other.shape, other.dtype);
    std::memcpy(t.address(), other.address(), other.bytes());
    return t;
  }

 private:
  Budget budget_;
  std::mt19937 random_;
  std::vector<OwnedTensor> tensors_;
};

inline std::vector<float> floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.elements()));
  convert_to_f32(t.address(), t.dtype, out.data(), t.elements());
  return out;
}

// Largest difference relative to the largest wanted value.
inline double distance(const Tensor& got, const Tensor& want) {
  std::vector<float> a = floats(got), b = floats(want);
  double worst = 0, largest = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::fabs(a[i]) < 1e30f)) return INFINITY;
    worst = std::max(worst, std::fabs(double(a[i]) - double(b[i])));
    largest = std::max(largest, std::fabs(double(b[i])));
  }
  return worst / largest;
}

class BackendTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    cpu_ = make(3);
    if (!cpu_) GTEST_SKIP() << "this CPU lacks " << GetParam().isa;
    one_thread_ = make(1);
    auto reference = make_backend("reference", {.threads = 2});
    ASSERT_TRUE(reference.ok());
    reference_ = *std::move(reference);
  }
  std::unique_ptr<Backend> make(int threads) {
    auto backend = make_backend("cpu", {.threads = threads, .isa = GetParam().isa});
    return backend.ok() ? *std::move(backend) : nullptr;
  }
  DType dtype() const { return GetParam().dtype; }
  // bf16 outputs are rounded once: half a unit in the last of 8 bits.
  double tolerance() const { return dtype() == DType::kF32 ? 2e-6 : 5e-3; }

  LinearWeight pack(Backend& backend, const Tensor& weight, const Tensor& bias) {
    LinearWeight w;
    w.n = weight.dim(0);
    w.k = weight.dim(1);
    w.dtype = dtype();
    w.bias = bias;
    Tensor memory = operands_.zeros({static_cast<int64_t>(backend.packed_linear_bytes(w.n, w.k, w.dtype))}, DType::kU8);
    backend.pack_linear(weight, w.dtype, memory.address());
    w.data = memory.address();
    return w;
  }
  ConvWeight pack(Backend& backend, const Tensor& weight, ConvWeight w) {
    w.dtype = dtype();
    Tensor memory = operands_.zeros({static_cast<int64_t>(backend.packed_conv_bytes(w))}, DType::kU8);
    backend.pack_conv(weight, w, memory.address());
    w.data = memory.address();
    return w;
  }

  // Runs on all backends; the CPU's results must be equal for any thread count, and near the reference's.
  template <typename Run>
  void compare(Shape shape, DType out_dtype, Run&& run) {
    Tensor want = operands_.zeros(shape, out_dtype), got = operands_.zeros(shape, out_dtype),
           single = operands_.zeros(shape, out_dtype);
    run(*reference_, want);
    run(*cpu_, got);
    run(*one_thread_, single);
    EXPECT_LE(distance(got, want), tolerance());
    EXPECT_EQ(std::memcmp(got.address(), single.address(), got.bytes()), 0) << "depends on the thread count";
  }

  Operands operands_;
  std::unique_ptr<Backend> cpu_, one_thread_, reference_;
};

// As BackendTest, and also over the reference itself (isa "reference").
class AnyBackendTest : public BackendTest {
 protected:
  void SetUp() override {
    if (GetParam().isa != "reference") return BackendTest::SetUp();
    cpu_ = *make_backend("reference", {.threads = 3});
    one_thread_ = *make_backend("reference", {.threads = 1});
    reference_ = *make_backend("reference", {.threads = 2});
  }
};

}  // namespace liveavatar
