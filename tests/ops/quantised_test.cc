// Quantised linear weights of every device against the reference, and against the matrix they stand for.
#include "core/quantise.h"
#include "fixture.h"
#include "ops/linear.h"

namespace liveavatar {
namespace {

// dtype is the weights'.
class QuantisedTest : public OpTest {
 protected:
  // Backends hold equal quantised values and accumulate in f32: only the order of sums differs, and a bf16 result's
  // last bit.
  void compare_linear(const Tensor& x, const Tensor& weight, DType out_dtype, const Epilogue& e = {}) {
    SCOPED_TRACE(weight.shape.str());
    Tensor bias = operands_.normal({weight.dim(0)});
    compare({x.dim(0), weight.dim(0)}, out_dtype, tolerance(out_dtype, 1.5),
            [&](Backend& b, const Tensor& out) { ops::linear(b, on(b, x), pack(b, weight, bias), out, on(b, e)); });
  }
};

TEST_P(QuantisedTest, LinearAtOddSizesAndOfMixedTypes) {
  for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                         {7, 65, 33},
                         {13, 130, 96},
                         {100, 3, 257},
                         {6, 64, 64},
                         {5, 17, 31},
                         {98, 37, 511},
                         {3, 70, 513},
                         {9, 20, 1100}}) {
    Tensor weight = operands_.normal({n, k}, DType::kF32, 0.05f);
    for (DType in : {DType::kF32, DType::kBF16}) {
      for (DType out : {DType::kF32, DType::kBF16}) compare_linear(operands_.normal({m, k}, in), weight, out);
    }
  }
}

TEST_P(QuantisedTest, LinearEpilogues) {
  Tensor x = operands_.normal({12, 600}), weight = operands_.normal({50, 600}, DType::kBF16, 0.1f);
  Tensor gate = operands_.normal({3, 50}), residual = operands_.normal({12, 50}, DType::kBF16);
  for (Activation act : {Activation::kNone, Activation::kGeluTanh, Activation::kSilu})
    compare_linear(x, weight, DType::kF32, {.activation = act, .gate = gate, .residual = residual});
}

TEST_P(QuantisedTest, RowsAreIndependent) {
  if (!backend_->rows_are_independent()) GTEST_SKIP() << backend_->name() << " does not guarantee it";
  for (DType in : {DType::kF32, DType::kBF16}) {
    Tensor x = on(*backend_, operands_.normal({101, 577}, in)), weight = operands_.normal({90, 577});
    LinearWeight w = pack(*backend_, weight, Tensor());
    Tensor all = result(*backend_, {101, 90});
    ops::linear(*backend_, x, w, all);
    all = host(*backend_, all);
    for (int64_t r = 0; r < 101; ++r) {
      Tensor alone = result(*backend_, {1, 90});
      ops::linear(*backend_, x.slice(r, 1), w, alone);
      EXPECT_TRUE(same_bits(host(*backend_, alone), all.slice(r, 1))) << r;
    }
  }
}

TEST_P(QuantisedTest, PackingInPiecesGivesTheSameBytes) {
  constexpr int64_t kN = 150, kK = 77;
  Tensor weight = operands_.normal({kN, kK});
  std::vector<char> whole(backend_->packed_linear_bytes(kN, kK, dtype())), pieces(whole.size());
  backend_->pack_linear(weight, dtype(), whole.data());
  for (int64_t r = 0; r < kN; r += Backend::kPackRows) {
    Tensor piece = weight.slice(r, std::min(Backend::kPackRows, kN - r));
    backend_->pack_linear(piece, dtype(), pieces.data() + backend_->packed_linear_bytes(r, kK, dtype()));
  }
  EXPECT_EQ(whole, pieces);
}

// Quantised values of a file are packed unchanged, in parts too.
TEST_P(QuantisedTest, StoredQuantisedValuesArePackedUnchanged) {
  if (!is_8bit(dtype())) GTEST_SKIP() << "blocks of 4 bits are packed from values";
  constexpr int64_t kN = 150, kK = 77;
  Tensor weight = operands_.normal({kN, kK});
  std::vector<uint8_t> codes(kN * kK);
  std::vector<float> scales(kN);
  for (int64_t n = 0; n < kN; ++n)
    scales[size_t(n)] = quantise_8bit(weight.host<float>() + n * kK, kK, dtype(), codes.data() + n * kK);
  for (Backend* backend : {backend_.get(), reference_.get()}) {
    std::vector<char> want(backend->packed_linear_bytes(kN, kK, dtype())), got(want.size());
    backend->pack_linear(weight, dtype(), want.data());
    for (int64_t r = 0; r < kN; r += Backend::kPackRows) {
      int64_t rows = std::min(Backend::kPackRows, kN - r);
      backend->pack_prequantised(Tensor(codes.data() + r * kK, {rows, kK}, dtype()), {scales.data() + r, size_t(rows)},
                                 got.data() + backend->packed_linear_bytes(r, kK, dtype()));
    }
    EXPECT_EQ(got, want) << backend->name();
  }
}

// The identity times the matrix gives it back with the format's error: so much of the rms for normal values, and never
// more than half a step. Zeros stay zeros, whole rows of them too.
TEST_P(QuantisedTest, ADequantisedMatrixHasTheErrorOfItsFormat) {
  constexpr int64_t kN = 40, kK = 1024;
  Tensor weight = operands_.normal({kN, kK}, DType::kF32, 0.02f);
  std::fill_n(weight.slice(3, 1).host<float>(), kK, 0.0f);
  weight.host<float>()[7] = 0;
  Tensor identity = operands_.zeros({kK, kK});
  for (int64_t i = 0; i < kK; ++i) identity.host<float>()[i * kK + i] = 1;
  Tensor back = values_of(*backend_, {kK, kN}, DType::kF32, [&](Backend& b, const Tensor& out) {
    ops::linear(b, on(b, identity), pack(b, weight, Tensor()), out);
  });
  double errors = 0, squares = 0;
  for (int64_t n = 0; n < kN; ++n) {
    for (int64_t k = 0; k < kK; ++k) {
      double w = weight.host<float>()[n * kK + k], error = back.host<float>()[k * kN + n] - w;
      errors += error * error;
      squares += w * w;
      if (w == 0) {
        EXPECT_EQ(error, 0) << n << " " << k;
      }
    }
  }
  double rms = std::sqrt(errors / squares);
  double expected = dtype() == DType::kI8 ? 0.0075 : (dtype() == DType::kQ4 ? 0.083 : 0.0265);
  EXPECT_LT(rms, expected * 1.1);
  EXPECT_GT(rms, expected / 1.5);  // finer would mean that the packed form is larger than it says
  double bits = 8.0 * double(backend_->packed_linear_bytes(5120, 5120, dtype())) / (5120.0 * 5120);
  EXPECT_LT(bits, dtype() == DType::kQ4 ? 4.51 : 8.01);
}

INSTANTIATE_TEST_SUITE_P(Devices, QuantisedTest,
                         ::testing::ValuesIn(op_cases({DType::kI8, DType::kF8E4M3, DType::kQ4})), op_case_name);

}  // namespace
}  // namespace liveavatar
