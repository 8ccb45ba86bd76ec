// Norms and RoPE against plain loops.
#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"
#include "plain_activation.h"

namespace liveavatar::cuda::emulated {
namespace {

struct NormCase {
  int64_t rows, width, groups;
  bool affine, modulated;
  ElementType x_type = kF32, out_type = kBF16;
  bool in_place = false;

  friend void PrintTo(const NormCase& c, std::ostream* out) { *out << c.rows << " x " << c.width; }
};

struct NormOperands {
  std::vector<float> x, weight, bias, scale, shift;
};

std::vector<double> plain_layer_norm(const NormCase& c, const NormOperands& o) {
  std::vector<double> out;
  for (int64_t r = 0; r < c.rows; ++r) {
    const float* row = &o.x[size_t(r * c.width)];
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < c.width; ++i) mean += row[i] / double(c.width);
    for (int64_t i = 0; i < c.width; ++i) variance += (row[i] - mean) * (row[i] - mean) / double(c.width);
    for (int64_t i = 0; i < c.width; ++i) {
      const size_t column = size_t(i), grouped = size_t(r / (c.rows / c.groups) * c.width + i);
      double y = (row[i] - mean) / std::sqrt(variance + 1e-6);
      if (c.affine) y = y * o.weight[column] + o.bias[column];
      if (c.modulated) y = y * (1 + double(o.scale[grouped])) + o.shift[grouped];
      out.push_back(y);
    }
  }
  return out;
}

class CudaLayerNorm : public KernelTest, public testing::WithParamInterface<NormCase> {};

TEST_P(CudaLayerNorm, IsThatOfPlainLoops) {
  const NormCase& c = GetParam();
  const NormOperands o{normal_in(c.x_type, c.rows * c.width, 3), normal(c.width), normal(c.width),
                       normal(c.groups * c.width), normal(c.groups * c.width)};
  const auto expected = plain_layer_norm(c, o);
  const DeviceVector<float> weight(o.weight), bias(o.bias), scale(o.scale), shift(o.shift);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor x(o.x, c.x_type), fresh(c.rows * c.width, c.out_type);
    const DeviceTensor& out = c.in_place ? x : fresh;
    LayerNormCall call{x.input(), nullptr, nullptr, nullptr, nullptr, c.rows, c.width, c.groups, 1e-6f, out.output()};
    if (c.affine) {
      call.weight = weight.data();
      call.bias = bias.data();
    }
    if (c.modulated) {
      call.scale = scale.data();
      call.shift = shift.data();
    }
    EXPECT_EQ(launch_layer_norm(call, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out_type))) << "order " << order;
  }
}

// Widths that are multiples of 4 and not, below and above a block's threads.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaLayerNorm,
                         testing::Values(NormCase{5, 256, 1, false, true}, NormCase{6, 333, 1, true, false},
                                         NormCase{9, 1540, 3, true, true}, NormCase{2, 5, 2, false, true},
                                         NormCase{1, 1, 1, false, false}, NormCase{4, 516, 2, true, true, kF32, kF32},
                                         NormCase{3, 259, 1, true, false, kF32, kF32, true},
                                         NormCase{4, 260, 2, false, true, kBF16, kF32},
                                         NormCase{3, 257, 1, true, true, kBF16, kF32},
                                         NormCase{4, 1028, 2, false, true, kBF16, kBF16},
                                         NormCase{3, 261, 1, true, false, kBF16, kBF16, true}));

struct RmsNormCase {
  int64_t rows, width;
  bool channels;
  ElementType type, out;
  Activation activation = Activation::kNone;
  bool in_place = false;

  friend void PrintTo(const RmsNormCase& c, std::ostream* out) { *out << c.rows << " x " << c.width; }
};

std::vector<double> plain_rms_norm(const RmsNormCase& c, const std::vector<float>& x, const std::vector<float>& gain) {
  std::vector<double> out;
  for (int64_t r = 0; r < c.rows; ++r) {
    const float* row = &x[size_t(r * c.width)];
    double squares = 0;
    for (int64_t i = 0; i < c.width; ++i) squares += double(row[i]) * row[i];
    const double factor = c.channels ? std::sqrt(double(c.width)) / std::max(std::sqrt(squares), 1e-12)
                                     : 1 / std::sqrt(squares / double(c.width) + 1e-3);
    for (int64_t i = 0; i < c.width; ++i) out.push_back(activated(row[i] * factor * gain[size_t(i)], c.activation));
  }
  return out;
}

class CudaRmsNorm : public KernelTest, public testing::WithParamInterface<RmsNormCase> {
 protected:
  std::vector<float> run(const RmsNormCase& c, const std::vector<float>& values, const std::vector<float>& gains) {
    const DeviceTensor x(values, c.type), fresh(c.rows * c.width, c.out);
    const DeviceTensor& out = c.in_place ? x : fresh;
    const DeviceVector<float> gain(gains);
    EXPECT_EQ(launch_rms_norm({x.input(), gain.data(), c.rows, c.width, c.channels, 1e-3f, c.activation, out.output()},
                              nullptr),
              0);
    return out.host();
  }
};

TEST_P(CudaRmsNorm, IsThatOfPlainLoops) {
  const RmsNormCase& c = GetParam();
  const auto x = normal_in(c.type, c.rows * c.width, 0.1f), gain = normal(c.width);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    EXPECT_TRUE(near(run(c, x, gain), plain_rms_norm(c, x, gain), tolerance_of(c.out))) << "order " << order;
  }
}

TEST_P(CudaRmsNorm, GivesARowTheSameBitsAloneAsAmongOthers) {
  const RmsNormCase& c = GetParam();
  const auto x = normal_in(c.type, c.rows * c.width), gain = normal(c.width);
  const auto together = run(c, x, gain);
  RmsNormCase last = c;
  last.rows = 1;
  const auto alone = run(last, {x.end() - c.width, x.end()}, gain);
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.end() - c.width)) << "wrong result: other bits";
}

// Of channels: rows that a last block does not fill, narrower and wider than a warp.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaRmsNorm,
                         testing::Values(RmsNormCase{3, 512, false, kF32, kF32},
                                         RmsNormCase{2, 1540, false, kBF16, kBF16},
                                         RmsNormCase{3, 333, false, kBF16, kF32}, RmsNormCase{2, 1, false, kF32, kBF16},
                                         RmsNormCase{2, 260, false, kF32, kF32, Activation::kNone, true},
                                         RmsNormCase{19, 16, true, kF32, kBF16, Activation::kSilu},
                                         RmsNormCase{9, 384, true, kBF16, kBF16, Activation::kSilu},
                                         RmsNormCase{8, 97, true, kBF16, kF32}, RmsNormCase{5, 5, true, kF32, kF32},
                                         RmsNormCase{7, 131, true, kF32, kF32, Activation::kSilu, true}));

TEST_F(CudaRmsNorm, OfChannelsDividesByNoLessThanTheSmallestLengthAndKeepsNaN) {
  const RmsNormCase c{3, 4, true, kF32, kF32};
  const auto got = run(c, {0, 0, 0, 0, 2e-13f, 0, 0, 0, NAN, 1, 1, 1}, {1, 1, 1, 1});
  EXPECT_TRUE(near({got.begin(), got.begin() + 8}, {0, 0, 0, 0, 0.4, 0, 0, 0}, 1e-6));
  for (size_t i = 8; i < 12; ++i) EXPECT_TRUE(std::isnan(got[i])) << "wrong result: " << got[i];
}

struct RopeCase {
  int64_t rows, heads, pairs;
  ElementType x_type, out_type;
  bool in_place;

  friend void PrintTo(const RopeCase& c, std::ostream* out) { *out << c.rows << " x " << c.heads << " x " << c.pairs; }
};

class CudaRope : public KernelTest, public testing::WithParamInterface<RopeCase> {};

TEST_P(CudaRope, IsThatOfPlainLoops) {
  const RopeCase& c = GetParam();
  const int64_t values = c.rows * c.heads * c.pairs * 2;
  const auto x = normal_in(c.x_type, values), table = normal(c.rows * c.pairs * 2);
  std::vector<double> expected(x.size());
  for (size_t i = 0; i < x.size(); i += 2) {
    const int64_t pair = int64_t(i) / 2;
    const float* angle = &table[size_t((pair / c.pairs / c.heads * c.pairs + pair % c.pairs) * 2)];
    expected[i] = double(x[i]) * angle[0] - double(x[i + 1]) * angle[1];
    expected[i + 1] = double(x[i]) * angle[1] + double(x[i + 1]) * angle[0];
  }
  const DeviceVector<float> dtable(table);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const DeviceTensor dx(x, c.x_type), fresh(values, c.out_type);
    const DeviceTensor& out = c.in_place ? dx : fresh;
    EXPECT_EQ(launch_rope({dx.input(), dtable.data(), c.rows, c.heads, c.pairs, out.output()}, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, c.out_type == kF32 ? 1e-6 : kBF16Tolerance)) << "order " << order;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaRope,
                         testing::Values(RopeCase{7, 3, 9, kF32, kF32, false}, RopeCase{11, 5, 64, kBF16, kBF16, true},
                                         RopeCase{3, 2, 7, kF32, kBF16, false}, RopeCase{5, 1, 3, kBF16, kF32, false}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
