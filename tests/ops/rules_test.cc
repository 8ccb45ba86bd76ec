// The rules that every backend keeps (backend/backend.h): a row's result depends neither on the rows beside it nor on the
// number of threads, streams give the bits of the whole, operands may share memory, types mix freely.
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

class RulesTest : public AnyBackendTest {
 protected:
  // Runs op over all rows at once on three threads, and over uneven pieces on one; every bit must agree.
  // op(backend, first row, rows, out); out [rows, width].
  template <typename Op>
  void expect_rows_alone(int64_t rows, int64_t width, const std::string& what, Op&& op) {
    if (!cpu_->rows_are_independent()) GTEST_SKIP() << cpu_->name() << " does not guarantee it";
    Tensor whole = operands_.normal({rows, width}, dtype());
    op(*cpu_, 0, rows, whole);
    for (int64_t piece : {1, 4, 6, 11}) {
      for (int64_t first = 0; first < rows; first += piece) {
        int64_t count = std::min(piece, rows - first);
        Tensor part = operands_.normal({count, width}, dtype());
        op(*one_thread_, first, count, part);
        ASSERT_EQ(std::memcmp(part.address(), whole.slice(first, count).address(), part.bytes()), 0)
            << what << ", width " << width << ", rows " << first << " + " << count;
      }
    }
  }
  // A bf16 result may be rounded to the other side of a half.
  static void expect_near(const Tensor& got, const Tensor& want, double f32_tolerance, const std::string& what) {
    EXPECT_LE(distance(got, want), got.dtype == DType::kF32 ? f32_tolerance : 5e-3) << what;
  }
  void expect_same(const Tensor& a, const Tensor& b, const std::string& what) {
    ASSERT_EQ(a.bytes(), b.bytes());
    EXPECT_EQ(std::memcmp(a.address(), b.address(), a.bytes()), 0) << what;
  }
};

TEST_P(RulesTest, RowOpsTreatEveryRowAlone) {
  constexpr int64_t kRows = 23;
  for (int64_t width : {6, 34, 100}) {
    Tensor x = operands_.normal({kRows, width}, dtype(), 2.0f), y = operands_.normal({kRows, width}, dtype());
    Tensor gain = operands_.normal({width}), bias = operands_.normal({width}),
           turns = operands_.normal({kRows, width / 2, 2});
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
  for (auto [n, k] : {std::pair<int64_t, int64_t>{70, 301}, {1, 5}, {129, 64}}) {
    Tensor x = operands_.normal({23, k}, dtype()), residual = operands_.normal({23, n}, dtype());
    Tensor weight = operands_.normal({n, k}), bias = operands_.normal({n}), gate = operands_.normal({1, n});
    LinearWeight w = pack(*cpu_, weight, bias);
    expect_rows_alone(23, n, "linear", [&](Backend& b, int64_t first, int64_t count, const Tensor& out) {
      ops::linear(b, x.slice(first, count), w, out,
                  {.activation = Activation::kGeluErf, .gate = gate, .residual = residual.slice(first, count)});
    });
  }
}

TEST_P(RulesTest, AttentionTreatsEveryQueryAlone) {
  Tensor q = operands_.normal({23, 80}, dtype()), k = operands_.normal({1030, 80}, dtype()),
         v = operands_.normal({1030, 80}, dtype());
  const KeyValues keys[] = {{k.slice(0, 513), v.slice(0, 513)}, {k.slice(513, 517), v.slice(513, 517)}};
  expect_rows_alone(23, 80, "attention", [&](Backend& b, int64_t first, int64_t count, const Tensor& out) {
    ops::attention(b, q.slice(first, count), keys, {.heads = 2, .scale = 0.15f}, out);
  });
}

TEST_P(RulesTest, SegmentsAreAsOne) {
  Tensor q = operands_.normal({5, 48}, dtype()), k = operands_.normal({700, 48}, dtype()),
         v = operands_.normal({700, 48}, dtype());
  const KeyValues whole{k, v};
  const KeyValues parts[] = {{k.slice(0, 1), v.slice(0, 1)},
                             {k.slice(1, 0), v.slice(1, 0)},
                             {k.slice(1, 599), v.slice(1, 599)},
                             {k.slice(600, 100), v.slice(600, 100)}};
  Tensor want = operands_.zeros({5, 48}, dtype()), got = operands_.zeros({5, 48}, dtype());
  ops::attention(*cpu_, q, {&whole, 1}, {.heads = 4, .scale = 0.3f}, want);
  ops::attention(*cpu_, q, parts, {.heads = 4, .scale = 0.3f}, got);
  expect_same(got, want, "segments");
}

// What the VAE's streams and the audio encoder stand on.
TEST_P(RulesTest, AConvolutionFrameByFrameIsTheWhole) {
  constexpr int64_t kFrames = 6, kIn = 20, kOut = 17;
  Tensor x = operands_.normal({kFrames, 5, 7, kIn}, dtype()), weight = operands_.normal({kOut, kIn, 3, 3, 3}),
         bias = operands_.normal({kOut});
  ConvWeight shape{.out_channels = kOut, .in_channels = kIn, .kernel = {3, 3, 3}, .bias = bias};
  ConvWeight w = pack(*cpu_, weight, shape);
  ConvGeometry g{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1, .zero_frames = 2};
  Tensor whole = operands_.zeros({kFrames, 5, 7, kOut}, dtype());
  ops::conv(*cpu_, x, w, g, whole);
  for (int64_t f = 0; f < kFrames; ++f) {
    int64_t past = std::min<int64_t>(f, 2);
    g.zero_frames = 2 - past;
    g.history = past > 0 ? x.slice(f - past, past) : Tensor();
    Tensor frame = operands_.zeros({1, 5, 7, kOut}, dtype());
    ops::conv(*one_thread_, x.slice(f, 1), w, g, frame);
    expect_same(frame, whole.slice(f, 1), "frame " + std::to_string(f));
  }
}

TEST_P(RulesTest, AConvolutionOverACutOutIsTheWhole) {
  Tensor x = operands_.normal({1, 1, 61, 24}, dtype()), weight = operands_.normal({24, 12, 1, 1, 5});
  ConvWeight w = pack(*cpu_, weight, {.out_channels = 24, .in_channels = 24, .kernel = {1, 1, 5}, .groups = 2});
  ConvGeometry g{.stride = {1, 1, 2}};
  Tensor whole = operands_.zeros({1, 1, 29, 24}, dtype()), part = operands_.zeros({1, 1, 11, 24}, dtype());
  ops::conv(*cpu_, x, w, g, whole);
  Tensor cut = x.reshape({61, 24}).slice(14, 25).reshape({1, 1, 25, 24});
  ops::conv(*one_thread_, cut, w, g, part);
  expect_same(part, whole.reshape({29, 24}).slice(7, 11), "cut");
}

TEST_P(RulesTest, ResultsMayLieOnTheirOperands) {
  Tensor x = operands_.normal({9, 36}, dtype()), y = operands_.normal({9, 36}, dtype()), gain = operands_.normal({36});
  Tensor turns = operands_.normal({9, 6, 2});
  auto check = [&](const std::string& what, auto op) {
    Tensor apart = operands_.zeros({9, 36}, dtype()), over_x = operands_.like(x);
    op(x, y, apart);
    op(over_x, y, over_x);
    expect_same(over_x, apart, what);
  };
  check("layer_norm",
        [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::layer_norm(*cpu_, a, 1e-6f, out); });
  check("rms_norm",
        [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::rms_norm(*cpu_, a, 1e-6f, gain, out); });
  check("channel_norm", [&](const Tensor& a, const Tensor&, const Tensor& out) {
    ops::channel_norm(*cpu_, a, gain, Activation::kSilu, out);
  });
  check("rope", [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::rope(*cpu_, a, turns, 3, out); });
  check("activate",
        [&](const Tensor& a, const Tensor&, const Tensor& out) { ops::activate(*cpu_, a, Activation::kSilu, out); });
  check("add", [&](const Tensor& a, const Tensor& b, const Tensor& out) { ops::add(*cpu_, a, b, out, -2.0f); });
  check("multiply", [&](const Tensor& a, const Tensor& b, const Tensor& out) { ops::multiply(*cpu_, a, b, out); });
  Tensor apart = operands_.zeros({9, 36}, dtype()), over_y = operands_.like(y);
  ops::add(*cpu_, x, y, apart, 0.5f);
  ops::add(*cpu_, x, over_y, over_y, 0.5f);
  expect_same(over_y, apart, "add over y");
}

TEST_P(RulesTest, AConvolutionsResidualMayBeItsOutput) {
  Tensor x = operands_.normal({2, 4, 5, 10}, dtype()), start = operands_.normal({2, 4, 5, 10}, dtype());
  ConvWeight w =
      pack(*cpu_, operands_.normal({10, 10, 1, 3, 3}), {.out_channels = 10, .in_channels = 10, .kernel = {1, 3, 3}});
  const ConvGeometry g{.pad_top = 1, .pad_bottom = 1, .pad_left = 1, .pad_right = 1};
  Tensor apart = operands_.zeros(start.shape, dtype()), over = operands_.like(start);
  ops::conv(*cpu_, x, w, g, apart, {.residual = start});
  ops::conv(*cpu_, x, w, g, over, {.residual = over});
  expect_same(over, apart, "residual");
}

TEST_P(RulesTest, TypesMixFreely) {
  const DType both[] = {DType::kF32, DType::kBF16};
  Tensor weight = operands_.normal({33, 30}), kernel = operands_.normal({12, 5, 2, 3, 3}),
         bias = operands_.normal({33});
  for (DType in : both) {
    for (DType other : both) {
      for (DType out_type : both) {
        std::string what = std::string(dtype_name(in)) + " " + dtype_name(other) + " -> " + dtype_name(out_type);
        auto compare = [&](Shape shape, auto run, double tolerance = 3e-6) {
          Tensor want = operands_.zeros(shape, out_type), got = operands_.zeros(shape, out_type);
          run(*reference_, want);
          run(*cpu_, got);
          expect_near(got, want, tolerance, what);
        };
        Tensor x = operands_.normal({7, 30}, in), residual = operands_.normal({7, 33}, other),
               y = operands_.normal({7, 30}, other);
        compare({7, 33}, [&](Backend& b, const Tensor& out) {
          ops::linear(b, x, pack(b, weight, bias), out, {.residual = residual});
        });
        compare({7, 30}, [&](Backend& b, const Tensor& out) { ops::add(b, x, y, out, 0.4f); });
        compare({7, 30}, [&](Backend& b, const Tensor& out) { ops::multiply(b, x, y, out); });
        Tensor video = operands_.normal({3, 4, 6, 5}, in), past = operands_.normal({1, 4, 6, 5}, in),
               over = operands_.normal({3, 2, 4, 12}, other);
        compare({3, 2, 4, 12}, [&](Backend& b, const Tensor& out) {
          ConvWeight w = pack(b, kernel, {.out_channels = 12, .in_channels = 5, .kernel = {2, 3, 3}});
          ops::conv(b, video, w, {.history = past}, out, {.residual = over});
        });
        Tensor k = operands_.normal({40, 30}, other), v = operands_.normal({40, 30}, other),
               k2 = operands_.normal({9, 30}, in), v2 = operands_.normal({9, 30}, in);
        const KeyValues segments[] = {{k, v}, {k2, v2}};
        // Where all operands are bf16 the probabilities may be a bf16 operand of the second product too.
        bool half = in == DType::kBF16 && other == DType::kBF16;
        compare(
            {7, 30},
            [&](Backend& b, const Tensor& out) { ops::attention(b, x, segments, {.heads = 3, .scale = 0.3f}, out); },
            half ? 5e-3 : 3e-6);
      }
    }
  }
}

TEST_P(RulesTest, LargeProducts) {
  Tensor x = operands_.normal({131, 1100}, dtype()), weight = operands_.normal({301, 1100}, DType::kF32, 0.03f),
         bias = operands_.normal({301});
  Tensor want = operands_.zeros({131, 301}), got = operands_.zeros({131, 301});
  ops::linear(*reference_, x, pack(*reference_, weight, bias), want);
  ops::linear(*cpu_, x, pack(*cpu_, weight, bias), got);
  EXPECT_LE(distance(got, want), 3e-6);
}

TEST_P(RulesTest, SharpAttentionStaysFinite) {
  Tensor q = operands_.normal({6, 32}, dtype(), 8.0f), k = operands_.normal({530, 32}, dtype(), 8.0f),
         v = operands_.normal({530, 32}, dtype());
  const KeyValues keys{k, v};
  Tensor want = operands_.zeros({6, 32}), got = operands_.zeros({6, 32});
  ops::attention(*reference_, q, {&keys, 1}, {.heads = 2, .scale = 1.0f}, want);
  ops::attention(*cpu_, q, {&keys, 1}, {.heads = 2, .scale = 1.0f}, got);
  EXPECT_LE(distance(got, want), dtype() == DType::kF32 ? 5e-5 : 5e-3);  // scores near 500 carry an error of 3e-5
}

std::vector<Case> cases_with_reference() {
  std::vector<Case> cases = all_cases();
  cases.push_back({"reference", DType::kF32});
  cases.push_back({"reference", DType::kBF16});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Backends, RulesTest, ::testing::ValuesIn(cases_with_reference()), case_name);

}  // namespace
}  // namespace liveavatar
