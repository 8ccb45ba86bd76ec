// The rules that every backend keeps (backend/backend.h): a row's result depends neither on the rows beside it nor on
// the number of threads, streams give the bits of the whole, operands may share memory, types mix freely.
#include "fixture.h"
#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace liveavatar {
namespace {

class RulesTest : public OpTest {
 protected:
  bool rows_are_independent() const { return backend_->rows_are_independent(); }
  std::string no_guarantee() const { return backend_->name() + " does not guarantee it"; }

  // Runs op over all rows at once on three threads, and over uneven pieces on one; every bit must agree.
  // op(backend, first row, rows, out); out [rows, width].
  template <typename Op>
  void expect_rows_alone(int64_t rows, int64_t width, const std::string& what, Op&& op) {
    auto values = [&](Backend& backend, int64_t first, int64_t count) {
      return values_of(backend, {count, width}, dtype(),
                       [&](Backend& b, const Tensor& out) { op(b, first, count, out); });
    };
    Tensor whole = values(*backend_, 0, rows);
    for (int64_t piece : {1, 4, 6, 11}) {
      for (int64_t first = 0; first < rows; first += piece) {
        int64_t count = std::min(piece, rows - first);
        ASSERT_TRUE(same_bits(values(*one_thread_, first, count), whole.slice(first, count)))
            << what << ", width " << width << ", rows " << first << " + " << count;
      }
    }
  }
};

TEST_P(RulesTest, RowOpsTreatEveryRowAlone) {
  if (!rows_are_independent()) GTEST_SKIP() << no_guarantee();
  constexpr int64_t kRows = 23;
  for (int64_t width : {6, 34, 100}) {
    auto normal = [&](Shape shape, DType type = DType::kF32, float scale = 1) {
      return on(*backend_, operands_.normal(shape, type, scale));
    };
    Tensor x = normal({kRows, width}, dtype(), 2.0f), y = normal({kRows, width}, dtype());
    Tensor gain = normal({width}), bias = normal({width}), turns = normal({kRows, width / 2, 2});
    auto check = [&](const std::string& what, auto op) {
      expect_rows_alone(kRows, width, what, [&](Backend& b, int64_t first, int64_t count, const Tensor& out) {
        op(b, x.slice(first, count), first, out);
      });
    };
    check("layer_norm",
          [](Backend& b, const Tensor& in, int64_t, const Tensor& out) { ops::layer_norm(b, in, 1e-6f, out); });
    check("layer_norm_affine", [&](Backend& b, const Tensor& in, int64_t, const Tensor& out) {
      ops::layer_norm_affine(b, in, 1e-5f, gain, bias, out);
    });
    check("rms_norm",
          [&](Backend& b, const Tensor& in, int64_t, const Tensor& out) { ops::rms_norm(b, in, 1e-6f, gain, out); });
    check("channel_norm", [&](Backend& b, const Tensor& in, int64_t, const Tensor& out) {
      ops::channel_norm(b, in, gain, Activation::kSilu, out);
    });
    check("rope", [&](Backend& b, const Tensor& in, int64_t first, const Tensor& out) {
      ops::rope(b, in, turns.slice(first, in.dim(0)), 1, out);
    });
    check("activate", [](Backend& b, const Tensor& in, int64_t, const Tensor& out) {
      ops::activate(b, in, Activation::kGeluTanh, out);
    });
    check("add", [&](Backend& b, const Tensor& in, int64_t first, const Tensor& out) {
      ops::add(b, in, y.slice(first, in.dim(0)), out, 0.3f);
    });
    check("multiply",
          [&](Backend& b, const Tensor& in, int64_t, const Tensor& out) { ops::multiply(b, in, gain, out); });
  }
}

TEST_P(RulesTest, LinearTreatsEveryRowAlone) {
  if (!rows_are_independent()) GTEST_SKIP() << no_guarantee();
  for (auto [n, k] : {std::pair<int64_t, int64_t>{70, 301}, {1, 5}, {129, 64}}) {
    Tensor x = on(*backend_, operands_.normal({23, k}, dtype())),
           residual = on(*backend_, operands_.normal({23, n}, dtype()));
    Tensor weight = operands_.normal({n, k}), bias = operands_.normal({n}),
           gate = on(*backend_, operands_.normal({1, n}));
    LinearWeight w = pack(*backend_, weight, bias);
    expect_rows_alone(23, n, "linear", [&](Backend& b, int64_t first, int64_t count, const Tensor& out) {
      ops::linear(b, x.slice(first, count), w, out,
                  {.activation = Activation::kGeluErf, .gate = gate, .residual = residual.slice(first, count)});
    });
  }
}

TEST_P(RulesTest, AttentionTreatsEveryQueryAlone) {
  if (!rows_are_independent()) GTEST_SKIP() << no_guarantee();
  Tensor q = on(*backend_, operands_.normal({23, 80}, dtype()));
  const KeyValues all =
      on(*backend_, KeyValues{operands_.normal({1030, 80}, dtype()), operands_.normal({1030, 80}, dtype())});
  const KeyValues keys[] = {all.slice(0, 513), all.slice(513, 517)};
  expect_rows_alone(23, 80, "attention", [&](Backend& b, int64_t first, int64_t count, const Tensor& out) {
    ops::attention(b, q.slice(first, count), keys, {.heads = 2, .scale = 0.15f}, out);
  });
}

TEST_P(RulesTest, AttentionOverSegmentsEqualsAttentionOverTheWhole) {
  Tensor q = on(*backend_, operands_.normal({5, 48}, dtype()));
  const KeyValues whole =
      on(*backend_, KeyValues{operands_.normal({700, 48}, dtype()), operands_.normal({700, 48}, dtype())});
  const std::vector<KeyValues> parts{whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 599), whole.slice(600, 100)};
  auto attend = [&](std::span<const KeyValues> keys) {
    return values_of(*backend_, {5, 48}, dtype(), [&](Backend& b, const Tensor& out) {
      ops::attention(b, q, keys, {.heads = 4, .scale = 0.3f}, out);
    });
  };
  const Tensor in_parts = attend(parts), at_once = attend({&whole, 1});
  if (device().segments_alone) {
    EXPECT_LE(distance(in_parts, at_once), tolerance(dtype()));
  } else {
    EXPECT_TRUE(same_bits(in_parts, at_once));
  }
}

// What the VAE's streams and the audio encoder stand on.
TEST_P(RulesTest, AConvolutionFrameByFrameEqualsTheWhole) {
  constexpr int64_t kFrames = 6, kIn = 20, kOut = 17;
  Tensor x = on(*backend_, operands_.normal({kFrames, 5, 7, kIn}, dtype())),
         weight = operands_.normal({kOut, kIn, 3, 3, 3}), bias = operands_.normal({kOut});
  ConvWeight shape{.out_channels = kOut, .in_channels = kIn, .kernel = {3, 3, 3}, .bias = bias};
  ConvWeight w = pack(*backend_, weight, shape);
  ConvGeometry g{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2};
  Tensor whole = values_of(*backend_, {kFrames, 5, 7, kOut}, dtype(),
                           [&](Backend& b, const Tensor& out) { ops::conv(b, x, w, g, out); });
  for (int64_t f = 0; f < kFrames; ++f) {
    int64_t past = std::min<int64_t>(f, 2);
    g.zero_frames = 2 - past;
    g.history = past > 0 ? x.slice(f - past, past) : Tensor();
    Tensor frame = values_of(*one_thread_, {1, 5, 7, kOut}, dtype(),
                             [&](Backend& b, const Tensor& out) { ops::conv(b, x.slice(f, 1), w, g, out); });
    EXPECT_TRUE(same_bits(frame, whole.slice(f, 1))) << "frame " << f;
  }
}

TEST_P(RulesTest, AConvolutionOverACropEqualsTheWhole) {
  Tensor x = on(*backend_, operands_.normal({1, 1, 61, 24}, dtype())), weight = operands_.normal({24, 12, 1, 1, 5});
  ConvWeight w = pack(*backend_, weight, {.out_channels = 24, .in_channels = 24, .kernel = {1, 1, 5}, .groups = 2});
  ConvGeometry g{.stride = {1, 1, 2}};
  Tensor cut = x.reshape({61, 24}).slice(14, 25).reshape({1, 1, 25, 24});
  Tensor whole =
      values_of(*backend_, {1, 1, 29, 24}, dtype(), [&](Backend& b, const Tensor& out) { ops::conv(b, x, w, g, out); });
  Tensor part = values_of(*one_thread_, {1, 1, 11, 24}, dtype(),
                          [&](Backend& b, const Tensor& out) { ops::conv(b, cut, w, g, out); });
  EXPECT_TRUE(same_bits(part, whole.reshape({29, 24}).slice(7, 11)));
}

TEST_P(RulesTest, ResultsMayLieOnTheirOperands) {
  Backend& b = *backend_;
  Tensor x = operands_.normal({9, 36}, dtype()), y = operands_.normal({9, 36}, dtype());
  Tensor gain = on(b, operands_.normal({36})), turns = on(b, operands_.normal({9, 6, 2}));
  auto check = [&](const std::string& what, auto op) {
    Tensor apart = result(b, {9, 36}, dtype()), over_x = copy_on(b, x), second = on(b, y);
    op(on(b, x), second, apart);
    op(over_x, second, over_x);
    EXPECT_TRUE(same_bits(host(b, over_x), host(b, apart))) << what;
  };
  check("layer_norm", [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::layer_norm(b, a, 1e-6f, out); });
  check("rms_norm", [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::rms_norm(b, a, 1e-6f, gain, out); });
  check("channel_norm", [&](const Tensor& a, const Tensor&, const Tensor& out) {
    ops::channel_norm(b, a, gain, Activation::kSilu, out);
  });
  check("rope", [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::rope(b, a, turns, 3, out); });
  check("activate",
        [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::activate(b, a, Activation::kSilu, out); });
  check("add", [&](const Tensor& a, const Tensor& c, const Tensor& out) { ops::add(b, a, c, out, -2.0f); });
  check("multiply", [&](const Tensor& a, const Tensor& c, const Tensor& out) { ops::multiply(b, a, c, out); });
  Tensor apart = result(b, {9, 36}, dtype()), over_y = copy_on(b, y);
  ops::add(b, on(b, x), on(b, y), apart, 0.5f);
  ops::add(b, on(b, x), over_y, over_y, 0.5f);
  EXPECT_TRUE(same_bits(host(b, over_y), host(b, apart))) << "add over y";
}

TEST_P(RulesTest, AConvolutionsResidualMayBeItsOutput) {
  Backend& b = *backend_;
  Tensor x = on(b, operands_.normal({2, 4, 5, 10}, dtype())), start = operands_.normal({2, 4, 5, 10}, dtype());
  ConvWeight w =
      pack(b, operands_.normal({10, 10, 1, 3, 3}), {.out_channels = 10, .in_channels = 10, .kernel = {1, 3, 3}});
  const ConvGeometry g{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};
  Tensor apart = result(b, start.shape, dtype()), over = copy_on(b, start);
  ops::conv(b, x, w, g, apart, {.residual = on(b, start)});
  ops::conv(b, x, w, g, over, {.residual = over});
  EXPECT_TRUE(same_bits(host(b, over), host(b, apart)));
}

TEST_P(RulesTest, TypesMixFreely) {
  const DType both[] = {DType::kF32, DType::kBF16};
  Tensor weight = operands_.normal({33, 30}), kernel = operands_.normal({12, 5, 2, 3, 3}),
         bias = operands_.normal({33});
  for (DType in : both) {
    for (DType other : both) {
      for (DType out_type : both) {
        std::string what = std::string(dtype_name(in)) + " " + dtype_name(other) + " -> " + dtype_name(out_type);
        SCOPED_TRACE(what);
        const double near = tolerance(out_type, 1.5);
        Tensor x = operands_.normal({7, 30}, in), residual = operands_.normal({7, 33}, other),
               y = operands_.normal({7, 30}, other);
        compare({7, 33}, out_type, near, [&](Backend& b, const Tensor& out) {
          ops::linear(b, on(b, x), pack(b, weight, bias), out, on(b, {.residual = residual}));
        });
        compare({7, 30}, out_type, near,
                [&](Backend& b, const Tensor& out) { ops::add(b, on(b, x), on(b, y), out, 0.4f); });
        compare({7, 30}, out_type, near,
                [&](Backend& b, const Tensor& out) { ops::multiply(b, on(b, x), on(b, y), out); });
        Tensor video = operands_.normal({3, 4, 6, 5}, in), past = operands_.normal({1, 4, 6, 5}, in),
               over = operands_.normal({3, 2, 4, 12}, other);
        compare({3, 2, 4, 12}, out_type, near, [&](Backend& b, const Tensor& out) {
          ConvWeight w = pack(b, kernel, {.out_channels = 12, .in_channels = 5, .kernel = {2, 3, 3}});
          ops::conv(b, on(b, video), w, {.history = on(b, past)}, out, on(b, {.residual = over}));
        });
        Tensor k = operands_.normal({40, 30}, other), v = operands_.normal({40, 30}, other),
               k2 = operands_.normal({9, 30}, in), v2 = operands_.normal({9, 30}, in);
        const std::vector<KeyValues> segments{{k, v}, {k2, v2}};
        // Where all operands are bf16 the probabilities may be a bf16 operand of the second product too.
        bool half = in == DType::kBF16 && other == DType::kBF16;
        compare({7, 30}, out_type, half ? tolerance(DType::kBF16) : near, [&](Backend& b, const Tensor& out) {
          ops::attention(b, on(b, x), on(b, segments), {.heads = 3, .scale = 0.3f}, out);
        });
      }
    }
  }
}

TEST_P(RulesTest, LargeProducts) {
  Tensor x = operands_.normal({131, 1100}, dtype()), weight = operands_.normal({301, 1100}, DType::kF32, 0.03f),
         bias = operands_.normal({301});
  compare({131, 301}, DType::kF32, tolerance(DType::kF32, 1.5),
          [&](Backend& b, const Tensor& out) { ops::linear(b, on(b, x), pack(b, weight, bias), out); });
}

TEST_P(RulesTest, SharpAttentionStaysFinite) {
  Tensor q = operands_.normal({6, 32}, dtype(), 8.0f);
  const KeyValues keys{operands_.normal({530, 32}, dtype(), 8.0f), operands_.normal({530, 32}, dtype())};
  // Scores near 500 carry an error of 3e-5.
  compare({6, 32}, DType::kF32, tolerance(dtype(), 25), [&](Backend& b, const Tensor& out) {
    const KeyValues there = on(b, keys);
    ops::attention(b, on(b, q), {&there, 1}, {.heads = 2, .scale = 1.0f}, out);
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, RulesTest, ::testing::ValuesIn(op_cases({DType::kF32, DType::kBF16})), op_case_name);

}  // namespace
}  // namespace liveavatar
