// Products of operands rounded to 8 bits, where a CPU has them and they are asked for: near those of bf16, the same for
// any number of threads, and of every row whatever the rows beside it are.
#include "core/quantise.h"
#include "fixture.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/make_backend.h"

namespace liveavatar {
namespace {

// Of the wanted values' spread.
double rms_error(const Tensor& got, const Tensor& want) {
  std::vector<float> a = floats(got), b = floats(want);
  double wrong = 0, all = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    wrong += std::pow(double(a[i]) - double(b[i]), 2);
    all += std::pow(double(b[i]), 2);
  }
  return std::sqrt(wrong / all);
}

class Int8ProductsTest : public OpTest {
 protected:
  void SetUp() override {
    OpTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    three_ = *source_->open({.threads = 3, .int8_products = true});
    one_ = *source_->open({.threads = 1, .int8_products = true});
    ASSERT_EQ(three_->int8_products(), device().int8_products);
    const bool has_products = dtype() == DType::kI8 ? device().int8_products : device().e4m3_products;
    if (!has_products) GTEST_SKIP() << device().name << " has no such products of 8-bit operands";
  }

  Tensor attend(Backend& backend, const Tensor& q, std::span<const KeyValues> keys, const AttentionSpec& spec) {
    return values_of(backend, q.shape, DType::kF32,
                     [&](Backend& b, const Tensor& out) { ops::attention(b, q, keys, spec, out); });
  }
  // Of operands on the host. Returns the error against products in bf16.
  double compare_attention(const Tensor& host_q, std::span<const KeyValues> host_keys, const AttentionSpec& host_spec) {
    const Tensor q = on(*three_, host_q);
    const std::vector<KeyValues> keys = on(*three_, host_keys);
    const AttentionSpec spec = on(*three_, host_spec);
    Tensor got = attend(*three_, q, keys, spec);
    EXPECT_TRUE(same_bits(got, attend(*one_, q, keys, spec))) << "depends on the thread count";
    if (spec.bias.empty() && three_->rows_are_independent()) {
      int64_t last = q.dim(0) - 1;
      EXPECT_TRUE(same_bits(attend(*three_, q.slice(last, 1), keys, spec), got.slice(last, 1)))
          << "depends on its neighbours";
    }
    return rms_error(got, attend(*backend_, q, keys, spec));
  }

  std::unique_ptr<Backend> three_, one_;
};

TEST_P(Int8ProductsTest, Linear) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 3, 2}, {7, 65, 33}, {101, 90, 577}, {5, 1100, 1030}}) {
    for (DType in : {DType::kF32, DType::kBF16}) {
      Tensor x = on(*three_, operands_.normal({m, k}, in)), weight = operands_.normal({n, k}, DType::kF32, 0.05f);
      LinearWeight w = pack(*three_, weight, operands_.normal({n}));
      auto product = [&](Backend& backend, const Tensor& rows) {
        return values_of(backend, {rows.dim(0), w.n}, DType::kF32,
                         [&](Backend& b, const Tensor& out) { ops::linear(b, rows, w, out); });
      };
      Tensor got = product(*three_, x), want = product(*backend_, x);
      EXPECT_LT(rms_error(got, want), dtype() == DType::kI8 ? 0.015 : 0.04) << m << " " << n << " " << k;
      if (k > 100) {
        EXPECT_GT(rms_error(got, want), 0) << "8-bit products were not used";
      }
      if (three_->rows_are_independent()) {
        EXPECT_TRUE(same_bits(product(*three_, x.slice(m - 1, 1)), got.slice(m - 1, 1)));
      }
      EXPECT_TRUE(same_bits(product(*one_, x), got)) << "depends on the thread count";
    }
  }
}

// With scratch for all rows, for some of them, and with none.
TEST_P(Int8ProductsTest, ReservedScratchIsInTheBudgetAndDoesNotChangeABit) {
  constexpr int64_t kRows = 420, kN = 130, kK = 200;
  const Tensor x = on(*three_, operands_.normal({kRows, kK})), weight = operands_.normal({kN, kK}, DType::kF32, 0.05f);
  const LinearWeight w = pack(*three_, weight, operands_.normal({kN}));
  const Epilogue e =
      on(*three_, Epilogue{.gate = operands_.normal({3, kN}), .residual = operands_.normal({kRows, kN})});
  auto product = [&](Backend& backend) {
    return values_of(backend, {kRows, kN}, DType::kF32,
                     [&](Backend& b, const Tensor& out) { ops::linear(b, x, w, out, e); });
  };
  const Tensor want = product(*three_);
  for (int64_t rows : {kRows, int64_t{150}}) {
    Budget budget(Budget::kUnlimited, source_->allocator(), host_budget_);
    const auto backend = *source_->open({.threads = 3, .int8_products = true, .budget = &budget});
    const size_t before = budget.used_bytes();
    ASSERT_TRUE(backend->reserve({.linear_elements = rows * kK, .linear_k = kK}).ok());
    const size_t reserved = budget.used_bytes();
    EXPECT_GE(reserved, before + size_t(rows * kK));
    EXPECT_TRUE(same_bits(product(*backend), want)) << rows;
    EXPECT_EQ(budget.used_bytes(), reserved);
    backend->release_scratch();
    EXPECT_EQ(budget.used_bytes(), before);
  }
}

TEST_P(Int8ProductsTest, Attention) {
  struct {
    int64_t queries, heads, d;
    std::vector<int64_t> keys;
    bool bias;
  } cases[] = {{1, 1, 2, {30}, false},      {7, 3, 32, {5}, false},         {20, 2, 24, {700, 3, 90}, false},
               {9, 4, 14, {33}, true},      {5, 1, 130, {515, 1}, false},   {81, 3, 40, {600, 45}, true},
               {70, 2, 128, {1030}, false}, {259, 1, 128, {64, 448}, false}};
  for (const auto& c : cases) {
    int64_t width = c.heads * c.d, total = 0;
    Tensor q = operands_.normal({c.queries, width}, DType::kBF16);
    std::vector<KeyValues> segments;
    for (int64_t n : c.keys) {
      segments.push_back({operands_.normal({n, width}, DType::kBF16), operands_.normal({n, width}, DType::kBF16)});
      total += n;
    }
    AttentionSpec spec{.heads = c.heads, .scale = 1.0f / std::sqrt(float(c.d))};
    if (c.bias) spec.bias = operands_.normal({c.heads, c.queries, total});
    EXPECT_EQ(compare_attention(q, segments, spec), 0) << "8 bits that nobody asked for";
    spec.in_8bit = true;
    double error = compare_attention(q, segments, spec);
    EXPECT_LT(error, 0.02) << c.d;  // scores cost a hundredth, weights and values a little less each
    EXPECT_EQ(error > 0, device().int8_attention) << "8-bit products were not used, or nobody has them";
  }
}

// 8-bit KV caches, and operands that have no products in 8 bits.
TEST_P(Int8ProductsTest, AttentionToOtherTypes) {
  const Shape shape{90, 2 * 32}, scales{90, 2};
  const AttentionSpec spec{.heads = 2, .scale = 0.2f, .in_8bit = true};
  Tensor q = operands_.normal({9, 64}, DType::kBF16), k = operands_.normal(shape, DType::kBF16);
  KeyValues codes{operands_.zeros(shape, DType::kI8), operands_.zeros(shape, DType::kI8), operands_.zeros(scales),
                  operands_.zeros(scales)};
  ops::quantise(*reference_, k, codes.k, codes.k_scale);
  ops::quantise(*reference_, k, codes.v, codes.v_scale);
  const KeyValues segments[] = {codes, {k, k}};
  double error = compare_attention(q, segments, spec);
  EXPECT_LT(error, 0.02);
  EXPECT_EQ(error > 0, device().int8_attention);
  Tensor wide = operands_.normal(shape);
  const KeyValues wider[] = {{wide, wide}, {k, k}};
  EXPECT_EQ(compare_attention(q, wider, spec), 0);
  const KeyValues odd{k, k};
  EXPECT_EQ(compare_attention(q, {&odd, 1}, {.heads = 64, .scale = 0.2f, .in_8bit = true}), 0);
}

// An offset that all keys share, far larger than what tells them apart, costs no bits; nor does a query of zeros
// matter.
TEST_P(Int8ProductsTest, AttentionToKeysFarFromZero) {
  constexpr int64_t kKeys = 600, kD = 64;
  Tensor q = operands_.normal({9, kD}, DType::kBF16, 3.0f), k = operands_.normal({kKeys, kD}),
         v = operands_.normal({kKeys, kD}, DType::kBF16), shifted = operands_.zeros(k.shape, DType::kBF16);
  Tensor offset = operands_.normal({1, kD}, DType::kF32, 30.0f);
  for (int64_t i = 0; i < k.elements(); ++i) k.host<float>()[i] += offset.host<float>()[i % kD];
  convert_from_f32(k.host<float>(), shifted.address(), DType::kBF16, k.elements());
  std::memset(q.slice(4, 1).address(), 0, q.slice(4, 1).bytes());
  const KeyValues keys{shifted, v};
  EXPECT_LT(compare_attention(q, {&keys, 1}, {.heads = 1, .scale = 0.125f, .in_8bit = true}), 0.03);
}

INSTANTIATE_TEST_SUITE_P(Devices, Int8ProductsTest, ::testing::ValuesIn(op_cases({DType::kI8, DType::kF8E4M3})),
                         op_case_name);

}  // namespace
}  // namespace liveavatar
