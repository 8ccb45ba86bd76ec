// Linear, convolution and attention of every device against the reference, at odd sizes; and two guarantees: no result
// depends on the number of threads, and no row on its neighbours where the backend says so.
#include "fixture.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

class ProductTest : public OpTest {
 protected:
  // op(first row, rows, out) on the backend: every row alone against all rows at once.
  template <typename Op>
  void expect_rows_alone(int64_t rows, int64_t width, Op&& op) {
    Tensor all = result(*backend_, {rows, width});
    op(0, rows, all);
    all = host(*backend_, all);
    for (int64_t r = 0; r < rows; ++r) {
      Tensor alone = result(*backend_, {1, width});
      op(r, 1, alone);
      EXPECT_TRUE(same_bits(host(*backend_, alone), all.slice(r, 1))) << r;
    }
  }
};

TEST_P(ProductTest, LinearAtOddSizes) {
  for (auto [m, n, k] :
       {std::array<int64_t, 3>{1, 1, 1}, {7, 65, 33}, {13, 130, 96}, {100, 3, 257}, {6, 64, 64}, {5, 17, 31}}) {
    Tensor x = operands_.normal({m, k}, dtype()), weight = operands_.normal({n, k}), bias = operands_.normal({n});
    compare({m, n}, dtype(),
            [&](Backend& b, const Tensor& out) { ops::linear(b, on(b, x), pack(b, weight, bias), out); });
  }
}

// More rows, columns and inputs than one MC, NC and KC block; the last also has more rows than are packed at once.
TEST_P(ProductTest, LinearInManyBlocks) {
  const bool in_blocks = device().name.starts_with("cpu_");
  if (kSanitized && !in_blocks) GTEST_SKIP() << "the reference has no blocks, and takes a minute under a sanitizer";
  for (auto [m, n, k] : {std::array<int64_t, 3>{310, 450, 70}, {37, 900, 1090}, {1100, 35, 2001}}) {
    Tensor x = operands_.normal({m, k}, dtype()), weight = operands_.normal({n, k}, DType::kF32, 0.1f);
    compare({m, n}, dtype(),
            [&](Backend& b, const Tensor& out) { ops::linear(b, on(b, x), pack(b, weight, Tensor()), out); });
  }
}

TEST_P(ProductTest, LinearTakesMixedTypes) {
  Tensor weight = operands_.normal({70, 45}), bias = operands_.normal({70});
  for (DType in : {DType::kF32, DType::kBF16}) {
    for (DType out_dtype : {DType::kF32, DType::kBF16}) {
      Tensor x = operands_.normal({9, 45}, in);
      compare({9, 70}, out_dtype,
              [&](Backend& b, const Tensor& out) { ops::linear(b, on(b, x), pack(b, weight, bias), out); });
    }
  }
}

TEST_P(ProductTest, LinearEpilogues) {
  Tensor x = operands_.normal({12, 40}, dtype()), weight = operands_.normal({50, 40}, DType::kF32, 0.3f),
         bias = operands_.normal({50});
  Tensor gate = operands_.normal({3, 50}), residual = operands_.normal({12, 50});
  for (Activation act :
       {Activation::kNone, Activation::kGeluTanh, Activation::kGeluErf, Activation::kSilu, Activation::kRelu}) {
    compare({12, 50}, DType::kF32, [&](Backend& b, const Tensor& out) {
      ops::linear(b, on(b, x), pack(b, weight, bias), out,
                  on(b, {.activation = act, .gate = gate, .residual = residual}));
    });
  }
}

TEST_P(ProductTest, LinearResidualMayBeTheOutput) {
  Tensor x = operands_.normal({10, 32}, dtype()), weight = operands_.normal({32, 32}),
         start = operands_.normal({10, 32});
  compare({10, 32}, DType::kF32, [&](Backend& b, const Tensor& out) {
    ops::copy(b, on(b, start), out);
    ops::linear(b, on(b, x), pack(b, weight, Tensor()), out, {.residual = out});
  });
}

TEST_P(ProductTest, LinearRowsAreIndependent) {
  if (!backend_->rows_are_independent()) GTEST_SKIP() << backend_->name() << " does not guarantee it";
  Tensor x = on(*backend_, operands_.normal({23, 77}, dtype())), weight = operands_.normal({90, 77});
  LinearWeight w = pack(*backend_, weight, Tensor());
  expect_rows_alone(23, 90, [&](int64_t first, int64_t count, const Tensor& out) {
    ops::linear(*backend_, x.slice(first, count), w, out);
  });
}

struct ConvCase {
  Shape x;
  int64_t out;
  std::array<int64_t, 3> kernel;
  ConvGeometry geometry;
  int64_t groups = 1, history = 0;
  bool residual = false;
};

TEST_P(ProductTest, Convolutions) {
  const ConvCase cases[] = {
      {{3, 7, 9, 5}, 11, {3, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2}},
      {{2, 6, 5, 16}, 20, {3, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1}, 1, 2, true},
      {{1, 6, 5, 3},
       8,
       {3, 3, 3},
       {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 1},
       1,
       1},
      {{2, 8, 10, 6}, 6, {1, 3, 3}, {.stride = {1, 2, 2}, .pad_bottom = 1, .pad_right = 1}},
      {{4, 4, 3, 8}, 8, {3, 1, 1}, {.stride = {2, 1, 1}}, 1, 1},
      {{2, 3, 4, 12}, 6, {1, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .upsample2x = true}},
      {{1, 1, 50, 1}, 9, {1, 1, 10}, {.stride = {1, 1, 5}}},
      {{1, 1, 37, 24}, 24, {1, 1, 16}, {.pad_left = 8, .pad_right = 7}, 4, 0, true},
      {{1, 20, 4, 7}, 10, {1, 3, 1}, {.stride = {1, 2, 1}}},
      // wide: several segments of a line
      {{1, 3, 150, 40}, 37, {1, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1}},
      {{1, 5, 330, 5}, 33, {1, 1, 3}, {.stride = {1, 1, 2}, .pad_left = 1, .pad_right = 1}},
      // few output channels and many pixels
      {{3, 19, 53, 8}, 8, {3, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1}, 1, 2, true},
      {{1, 13, 41, 12}, 3, {1, 3, 3}, {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2}},
      {{2, 9, 17, 6},
       16,
       {1, 3, 3},
       {.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .upsample2x = true}},
      {{4, 10, 31, 20}, 4, {3, 1, 5}, {.stride = {2, 1, 1}, .pad_left = 2, .pad_right = 2}, 1, 1},
      {{2, 17, 40, 5}, 7, {2, 3, 3}, {.pad_top = 2, .pad_bottom = 1, .pad_right = 2, .zero_frames = 1}},
  };
  for (const ConvCase& c : cases) {
    int64_t in = c.x[3];
    Tensor x = operands_.normal(c.x, dtype());
    Tensor weight = operands_.normal({c.out, in / c.groups, c.kernel[0], c.kernel[1], c.kernel[2]}),
           bias = operands_.normal({c.out});
    ConvGeometry geometry = c.geometry;
    if (c.history > 0) geometry.history = operands_.normal({c.history, c.x[1], c.x[2], in}, dtype());
    ConvWeight shape;
    shape.out_channels = c.out;
    shape.in_channels = in;
    shape.kernel = c.kernel;
    shape.groups = c.groups;
    shape.bias = bias;
    Shape out_shape = ops::conv_shape(c.x, shape, geometry);
    Tensor residual = c.residual ? operands_.normal(out_shape, dtype()) : Tensor();
    compare(out_shape, dtype(), [&](Backend& b, const Tensor& out) {
      ops::conv(b, on(b, x), pack(b, weight, shape), on(b, geometry), out,
                on(b, {.activation = Activation::kSilu, .residual = residual}));
    });
  }
}

TEST_P(ProductTest, AttentionOverSegments) {
  struct {
    int64_t queries, heads, d;
    std::vector<int64_t> keys;
    bool bias;
  } cases[] = {{1, 1, 2, {1}, false},       {7, 3, 32, {5}, false},       {20, 2, 24, {700, 3, 90}, false},
               {9, 4, 12, {33}, true},      {5, 1, 130, {515, 1}, false}, {3, 5, 64, {1100}, true},
               {81, 3, 40, {600, 45}, true}};
  for (const auto& c : cases) {
    int64_t width = c.heads * c.d, total = 0;
    Tensor q = operands_.normal({c.queries, width}, dtype());
    std::vector<KeyValues> segments;
    for (int64_t n : c.keys) {
      Tensor k = operands_.normal({n, width}, dtype());
      segments.push_back({k, operands_.normal({n, width}, dtype())});
      total += n;
    }
    AttentionSpec spec{.heads = c.heads, .scale = 1.0f / std::sqrt(float(c.d))};
    if (c.bias) spec.bias = operands_.normal({c.heads, c.queries, total});
    compare({c.queries, width}, dtype(),
            [&](Backend& b, const Tensor& out) { ops::attention(b, on(b, q), on(b, segments), on(b, spec), out); });
  }
}

// 8-bit keys and values, by themselves and beside plain ones, keys and values each as they like: the bits of attention
// over what they stand for, which some devices round to bf16 where everything else is bf16.
TEST_P(ProductTest, AttentionOver8BitKeysAndValues) {
  struct {
    int64_t queries, heads, d, keys;
  } cases[] = {{1, 1, 2, 1}, {7, 3, 32, 33}, {9, 2, 24, 700}, {5, 1, 130, 515}, {3, 4, 15, 20}};
  for (DType type : {DType::kI8, DType::kF8E4M3}) {
    for (const auto& c : cases) {
      Shape shape{c.keys, c.heads * c.d}, scales{c.keys, c.heads}, out_shape{c.queries, c.heads * c.d};
      AttentionSpec spec{.heads = c.heads, .scale = 1.0f / std::sqrt(float(c.d))};
      Tensor q = operands_.normal(out_shape, dtype());
      KeyValues host_codes{operands_.zeros(shape, type), operands_.zeros(shape, type), operands_.zeros(scales),
                           operands_.zeros(scales)};
      ops::quantise(*reference_, operands_.normal(shape), host_codes.k, host_codes.k_scale);
      ops::quantise(*reference_, operands_.normal(shape, DType::kBF16), host_codes.v, host_codes.v_scale);
      const KeyValues host_other{operands_.normal(shape, dtype()), operands_.normal(shape, dtype())};
      for (Backend* backend : {backend_.get(), one_thread_.get(), reference_.get()}) {
        bool half = backend != reference_.get() && device().int8_as_bf16 && dtype() == DType::kBF16 && c.d % 2 == 0;
        DType plain_type = half ? DType::kBF16 : DType::kF32;
        const KeyValues codes = on(*backend, host_codes), other = on(*backend, host_other),
                        plain{result(*backend, shape, plain_type), result(*backend, shape, plain_type)};
        ops::dequantise(*backend, codes.k, codes.k_scale, plain.k);
        ops::dequantise(*backend, codes.v, codes.v_scale, plain.v);
        int64_t rest = c.keys - c.keys / 2;
        const KeyValues segments[] = {codes,
                                      other,
                                      {other.k, codes.v, Tensor(), codes.v_scale},
                                      codes.slice(c.keys / 2, rest)},
                        stand_for[] = {plain, other, {other.k, plain.v}, plain.slice(c.keys / 2, rest)};
        for (size_t count : {1u, 4u}) {
          auto attend = [&](const KeyValues* keys) {
            return values_of(*backend, out_shape, DType::kF32, [&](Backend& b, const Tensor& out) {
              ops::attention(b, on(b, q), {keys, count}, spec, out);
            });
          };
          EXPECT_TRUE(same_bits(attend(segments), attend(stand_for))) << backend->name() << " " << c.d;
        }
      }
    }
  }
}

// A row and head comes back within half a step of its largest value (e4m3: a sixteenth of each value or half the
// smallest step), scales are its own, and zeros stay zeros.
TEST_P(ProductTest, DequantisedRowsAreWithinHalfAStep) {
  constexpr int64_t kRows = 9, kHeads = 3, kWidth = 3 * 20, kD = kWidth / kHeads;
  for (DType type : {DType::kI8, DType::kF8E4M3}) {
    Tensor x = operands_.normal({kRows, kWidth}, dtype(), 3.0f);
    std::memset(x.slice(4, 1).address(), 0, x.slice(4, 1).bytes());
    Tensor codes = result(*backend_, {kRows, kWidth}, type), scale = result(*backend_, {kRows, kHeads});
    ops::quantise(*backend_, on(*backend_, x), codes, scale);
    Tensor back = values_of(*backend_, {kRows, kWidth}, DType::kF32,
                            [&](Backend& b, const Tensor& out) { ops::dequantise(b, codes, scale, out); });
    std::vector<float> values = floats(x);
    for (int64_t i = 0; i < kRows * kHeads; ++i) {
      float largest = 0;
      for (int64_t c = i * kD; c < (i + 1) * kD; ++c) largest = std::max(largest, std::fabs(values[size_t(c)]));
      for (int64_t c = i * kD; c < (i + 1) * kD; ++c) {
        float v = values[size_t(c)],
              bound = type == DType::kI8 ? largest / 254 : std::max(std::fabs(v) / 16, largest / 448 * 0x1p-10f);
        EXPECT_LE(std::fabs(back.host<float>()[c] - v), bound * 1.001f) << i;
      }
    }
  }
}

TEST_P(ProductTest, AttentionQueriesAreIndependent) {
  if (!backend_->rows_are_independent()) GTEST_SKIP() << backend_->name() << " does not guarantee it";
  Tensor q = on(*backend_, operands_.normal({19, 96}, dtype()));
  const KeyValues keys =
      on(*backend_, KeyValues{operands_.normal({600, 96}, dtype()), operands_.normal({600, 96}, dtype())});
  expect_rows_alone(19, 96, [&](int64_t first, int64_t count, const Tensor& out) {
    ops::attention(*backend_, q.slice(first, count), {&keys, 1}, {.heads = 3, .scale = 0.2f}, out);
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, ProductTest, ::testing::ValuesIn(op_cases({DType::kF32, DType::kBF16})),
                         op_case_name);

}  // namespace
}  // namespace liveavatar
