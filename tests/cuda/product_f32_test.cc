// Linear layers and convolutions in f32 arithmetic against plain loops.
#include <array>
#include <cstring>

#include "backend/cuda/kernels/launches.h"
#include "floats.h"
#include "packed_weights.h"

namespace liveavatar::cuda::emulated {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

struct LinearCase {
  int64_t m, n, k;
  ElementType x = kF32, w = kF32, out = kF32, residual = kF32;
  int64_t groups = 0;     // of the gate; 0: no gate
  bool in_place = false;  // the residual is out

  friend void PrintTo(const LinearCase& c, std::ostream* out) {
    *out << c.m << " x " << c.n << " x " << c.k << ", types " << int(c.x) << int(c.w) << int(c.out) << int(c.residual);
  }
};

class CudaLinearF32 : public KernelTest, public testing::WithParamInterface<LinearCase> {};

TEST_P(CudaLinearF32, IsThatOfPlainLoops) {
  const LinearCase& c = GetParam();
  const int64_t groups = std::max<int64_t>(c.groups, 1);
  const PackedWeights w(normal(c.n * c.k, 1 / std::sqrt(float(c.k))), c.n, c.k, c.w);
  const Floats x(normal_bf16(c.m * c.k), c.x), residual(normal_bf16(c.m * c.n), c.residual);
  const auto bias = normal(c.n), gate = normal(groups * c.n), x_values = x.host(), residual_values = residual.host();
  std::vector<double> expected;
  for (int64_t i = 0; i < c.m * c.n; ++i) {
    const int64_t row = i / c.n, column = i % c.n;
    double sum = bias[size_t(column)];
    for (int64_t k = 0; k < c.k; ++k)
      sum += double(x_values[size_t(row * c.k + k)]) * w.values[size_t(column * c.k + k)];
    sum = silu(sum);
    if (c.groups > 0) sum *= gate[size_t(row / (c.m / groups) * c.n + column)];
    expected.push_back(sum + residual_values[size_t(i)]);
  }
  const DeviceVector<float> dbias(bias), dgate(gate);
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const Floats out(c.in_place ? residual_values : std::vector<float>(expected.size()), c.out);
    const EpilogueCall epilogue{dbias.data(), c.groups > 0 ? dgate.data() : nullptr, groups,
                                c.in_place ? out : residual, Activation::kSilu};
    EXPECT_EQ(launch_linear_f32({x, w.matrix(), c.m, epilogue, out}, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance(c.out))) << "order " << order;
  }
}

// Sizes below, at and above a block's; k that is a multiple of 4 and not, and that ends within a step.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaLinearF32,
                         testing::Values(LinearCase{1, 1, 1}, LinearCase{64, 64, 64},
                                         LinearCase{7, 65, 33, kBF16, kBF16, kF32, kBF16},
                                         LinearCase{100, 3, 257, kF32, kBF16, kBF16, kF32, 4},
                                         LinearCase{13, 130, 96, kBF16, kF32, kBF16},
                                         LinearCase{66, 70, 72, kF32, kF32, kF32, kF32, 3, true},
                                         LinearCase{130, 20, 36, kBF16, kBF16, kBF16, kBF16, 2, true}));
INSTANTIATE_TEST_SUITE_P(
    QuantisedWeights, CudaLinearF32,
    testing::Values(LinearCase{1, 1, 1, kF32, ElementType::kI8}, LinearCase{7, 65, 33, kBF16, ElementType::kI8},
                    LinearCase{20, 130, 64, kF32, ElementType::kI8}, LinearCase{1, 1, 1, kF32, ElementType::kE4M3},
                    LinearCase{7, 65, 33, kF32, ElementType::kE4M3}, LinearCase{20, 130, 64, kBF16, ElementType::kE4M3},
                    LinearCase{1, 1, 1, kF32, ElementType::kQ4}, LinearCase{7, 65, 33, kF32, ElementType::kQ4},
                    LinearCase{100, 3, 257, kBF16, ElementType::kQ4}, LinearCase{20, 130, 64, kF32, ElementType::kQ4}));

TEST_F(KernelTest, CudaLinearF32DecodesEveryE4m3) {
  const int64_t n = 256;  // w is a column with each of the bit patterns
  std::vector<uint8_t> bytes;
  for (int64_t first = 0; first < n; first += kGroupRows) {
    for (int64_t row = first; row < first + kGroupRows; ++row) {
      bytes.push_back(uint8_t(row));
      bytes.insert(bytes.end(), 15, 0);
    }
    const std::vector<float> ones(kGroupRows, 1);
    bytes.insert(bytes.end(), reinterpret_cast<const uint8_t*>(ones.data()),
                 reinterpret_cast<const uint8_t*>(ones.data() + kGroupRows));
  }
  const DeviceVector<uint8_t> w(bytes);
  const Floats x({1}, kF32), out(std::vector<float>(size_t(n)), kF32);
  const PackedMatrix matrix{w.data(), ElementType::kE4M3, n, 1, 16, kGroupRows * 20};
  launch_linear_f32({x, matrix, 1, {nullptr, nullptr, 1, {}, Activation::kNone}, out}, nullptr);
  const auto got = out.host();
  for (int64_t i = 0; i < n; ++i) {
    const float expected = decode_8bit(DType::kF8E4M3, uint8_t(i)), decoded = got[size_t(i)];
    EXPECT_TRUE(decoded == expected || (std::isnan(decoded) && std::isnan(expected))) << "wrong result: of bits " << i;
  }
}

TEST_F(KernelTest, CudaLinearF32RowHasTheSameBitsAloneAsAmongOthers) {
  const int64_t m = 150, n = 72, k = 77;
  const auto x = normal(m * k);
  const PackedWeights w(normal(n * k), n, k, ElementType::kQ4);
  auto run = [&](int64_t first, int64_t rows) {
    const Floats part({x.begin() + first * k, x.begin() + (first + rows) * k}, kF32);
    const Floats out(std::vector<float>(size_t(rows * n)), kF32);
    launch_linear_f32({part, w.matrix(), rows, {nullptr, nullptr, 1, {}, Activation::kNone}, out}, nullptr);
    return out.host();
  };
  const auto all = run(0, m);
  for (int64_t r : {0, 7, 63, 64, 129, 149})
    EXPECT_EQ(std::memcmp(run(r, 1).data(), &all[size_t(r * n)], size_t(n) * sizeof(float)), 0) << "row " << r;
}

struct ConvCase {
  std::array<int64_t, 4> x;  // frames, rows, columns, channels
  int64_t out_channels;
  std::array<int64_t, 3> kernel, stride{1, 1, 1};
  std::array<int64_t, 4> pad{};  // top, bottom, left, right
  int64_t zero_frames = 0, history = 0, groups = 1;
  bool upsample = false, residual = false;
  ElementType type = kF32, w = kF32, out = kF32;

  friend void PrintTo(const ConvCase& c, std::ostream* out) {
    *out << c.x[0] << " x " << c.x[1] << " x " << c.x[2] << " x " << c.x[3] << " -> " << c.out_channels;
  }

  int64_t up() const { return upsample ? 2 : 1; }
  int64_t group_channels() const { return x[3] / groups; }
  int64_t k() const { return kernel[0] * kernel[1] * kernel[2] * group_channels(); }
  int64_t line() const { return x[1] * x[2] * x[3]; }  // elements of a frame
  std::array<int64_t, 3> out_size() const {
    return {(zero_frames + history + x[0] - kernel[0]) / stride[0] + 1,
            (x[1] * up() + pad[0] + pad[1] - kernel[1]) / stride[1] + 1,
            (x[2] * up() + pad[2] + pad[3] - kernel[2]) / stride[2] + 1};
  }
  int64_t out_pixels() const { return out_size()[0] * out_size()[1] * out_size()[2]; }
};

// frames: history and x, one behind the other; w [out channels, k]. The sum for one value of out.
double plain_sum(const ConvCase& c, const std::vector<float>& frames, const std::vector<float>& w, int64_t pixel,
                 int64_t channel) {
  const auto [out_frames, out_rows, out_columns] = c.out_size();
  const int64_t group = channel / (c.out_channels / c.groups);
  double sum = 0;
  for (int64_t tap = 0; tap < c.kernel[0] * c.kernel[1] * c.kernel[2]; ++tap) {
    const int64_t frame =
        pixel / out_columns / out_rows * c.stride[0] + tap / c.kernel[2] / c.kernel[1] - c.zero_frames;
    const int64_t y = pixel / out_columns % out_rows * c.stride[1] + tap / c.kernel[2] % c.kernel[1] - c.pad[0];
    const int64_t x = pixel % out_columns * c.stride[2] + tap % c.kernel[2] - c.pad[2];
    if (frame < 0 || y < 0 || x < 0 || y >= c.x[1] * c.up() || x >= c.x[2] * c.up()) continue;
    const int64_t at = frame * c.line() + (y / c.up() * c.x[2] + x / c.up()) * c.x[3] + group * c.group_channels();
    for (int64_t i = 0; i < c.group_channels(); ++i) {
      sum += double(frames[size_t(at + i)]) * w[size_t(channel * c.k() + tap * c.group_channels() + i)];
    }
  }
  return sum;
}

class CudaConvF32 : public KernelTest, public testing::WithParamInterface<ConvCase> {};

TEST_P(CudaConvF32, IsThatOfPlainLoops) {
  const ConvCase& c = GetParam();
  const auto frames = normal_bf16((c.history + c.x[0]) * c.line());
  const auto first_frame = frames.begin() + c.history * c.line();
  const Floats history({frames.begin(), first_frame}, c.type), x({first_frame, frames.end()}, c.type);
  const PackedWeights w(normal(c.out_channels * c.k(), 1 / std::sqrt(float(c.k()))), c.out_channels, c.k(), c.w);
  const Floats residual(normal_bf16(c.out_pixels() * c.out_channels), c.type);
  const auto bias = normal(c.out_channels), residual_values = residual.host();
  std::vector<double> expected;
  for (int64_t i = 0; i < c.out_pixels() * c.out_channels; ++i) {
    const int64_t channel = i % c.out_channels;
    const double sum = plain_sum(c, frames, w.values, i / c.out_channels, channel) + bias[size_t(channel)];
    expected.push_back(silu(sum) + (c.residual ? residual_values[size_t(i)] : 0));
  }
  const DeviceVector<float> dbias(bias);
  const auto [out_frames, out_rows, out_columns] = c.out_size();
  const EpilogueCall epilogue{dbias.data(), nullptr, 1, c.residual ? residual : Input{}, Activation::kSilu};
  for (uint32_t order : kOrders) {
    emulate::order_seed = order;
    const Floats out(std::vector<float>(expected.size()), c.out);
    const ConvCall call{.x = x,
                        .history = c.history > 0 ? history : Input{},
                        .history_frames = c.history,
                        .zero_frames = c.zero_frames,
                        .frames = c.x[0],
                        .rows = c.x[1],
                        .columns = c.x[2],
                        .channels = c.x[3],
                        .kernel = {c.kernel[0], c.kernel[1], c.kernel[2]},
                        .stride = {c.stride[0], c.stride[1], c.stride[2]},
                        .pad_top = c.pad[0],
                        .pad_left = c.pad[2],
                        .upsample2x = c.upsample,
                        .out_frames = out_frames,
                        .out_rows = out_rows,
                        .out_columns = out_columns,
                        .groups = c.groups,
                        .w = w.matrix(),
                        .epilogue = epilogue,
                        .out = out};
    EXPECT_EQ(launch_conv_f32(call, nullptr), 0);
    EXPECT_TRUE(near(out.host(), expected, tolerance(c.out))) << "order " << order;
  }
}

// The cases of tests/ops/product_test.cc: channels that are a multiple of 4 and not, history, zero frames, strides,
// padding on some sides, doubled pixels, groups whose channels are less than a tile.
INSTANTIATE_TEST_SUITE_P(
    Geometries, CudaConvF32,
    testing::Values(
        ConvCase{{3, 7, 9, 5}, 11, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2},
        ConvCase{{2, 6, 5, 16}, 20, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true, kBF16, kBF16, kBF16},
        ConvCase{{1, 6, 5, 3}, 8, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 1, 1},
        ConvCase{{2, 8, 10, 6}, 6, {1, 3, 3}, {1, 2, 2}, {0, 1, 0, 1}, 0, 0, 1, false, true, kBF16},
        ConvCase{{4, 4, 3, 8}, 8, {3, 1, 1}, {2, 1, 1}, {}, 0, 1, 1, false, false, kBF16, kF32, kBF16},
        ConvCase{{2, 3, 4, 12}, 6, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true},
        ConvCase{{1, 1, 50, 1}, 9, {1, 1, 10}, {1, 1, 5}, {}, 0, 0, 1, false, false, kF32, kBF16},
        ConvCase{{1, 1, 37, 24}, 24, {1, 1, 16}, {1, 1, 1}, {0, 0, 8, 7}, 0, 0, 4, false, true},
        ConvCase{{1, 1, 37, 144}, 144, {1, 1, 3}, {1, 1, 1}, {0, 0, 1, 1}, 0, 0, 2, false, true, kBF16, kBF16},
        ConvCase{{1, 20, 4, 7}, 10, {1, 3, 1}, {1, 2, 1}},
        ConvCase{{1, 3, 150, 40}, 37, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}},
        ConvCase{{1, 5, 330, 5}, 33, {1, 1, 3}, {1, 1, 2}, {0, 0, 1, 1}},
        ConvCase{{3, 19, 53, 8}, 8, {3, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 2, 1, false, true},
        ConvCase{{1, 13, 41, 12}, 3, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 2},
        ConvCase{{2, 9, 17, 6}, 16, {1, 3, 3}, {1, 1, 1}, {1, 1, 1, 1}, 0, 0, 1, true},
        ConvCase{{4, 10, 31, 20}, 4, {3, 1, 5}, {2, 1, 1}, {0, 0, 2, 2}, 0, 1, 1, false, false, kBF16},
        ConvCase{{2, 17, 40, 5}, 7, {2, 3, 3}, {1, 1, 1}, {2, 1, 0, 2}, 1}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
