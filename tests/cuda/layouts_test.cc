// Patches and transposes against plain loops.
#include "backend/cuda/kernels/launches.h"
#include "emulated_device.h"

namespace liveavatar::cuda::emulated {
namespace {

struct PatchCase {
  int64_t channels, frames, rows, columns, pf, ph, pw;
  ElementType from, to;

  int64_t video() const { return channels * frames * rows * columns; }
  int64_t tokens() const { return (frames / pf) * (rows / ph) * (columns / pw); }
  int64_t features() const { return channels * pf * ph * pw; }
  friend void PrintTo(const PatchCase& c, std::ostream* out) {
    *out << c.channels << " x " << c.frames << " x " << c.rows << " x " << c.columns;
  }
};

// visit(index in tokens, index in the video)
template <typename F>
void each_patch_element(const PatchCase& c, bool channel_first, const F& visit) {
  const int64_t patch = c.pf * c.ph * c.pw;
  for (int64_t f = 0; f < c.frames / c.pf * c.pf; ++f) {
    for (int64_t y = 0; y < c.rows / c.ph * c.ph; ++y) {
      for (int64_t x = 0; x < c.columns / c.pw * c.pw; ++x) {
        const int64_t token = (f / c.pf * (c.rows / c.ph) + y / c.ph) * (c.columns / c.pw) + x / c.pw;
        const int64_t in_patch = (f % c.pf * c.ph + y % c.ph) * c.pw + x % c.pw;
        for (int64_t channel = 0; channel < c.channels; ++channel) {
          const int64_t feature = channel_first ? channel * patch + in_patch : in_patch * c.channels + channel;
          visit(size_t(token * c.features() + feature),
                size_t(((channel * c.frames + f) * c.rows + y) * c.columns + x));
        }
      }
    }
  }
}

class CudaPatch : public KernelTest, public testing::WithParamInterface<PatchCase> {
 protected:
  void expect(const PatchCase& c, bool to_tokens, const std::vector<float>& values,
              const std::vector<double>& expected) {
    for (uint32_t order : kOrders) {
      emulate::order_seed = order;
      const DeviceTensor from(values, c.from), to(int64_t(expected.size()), c.to);
      EXPECT_EQ(launch_patch(
                    {from.input(), c.channels, c.frames, c.rows, c.columns, c.pf, c.ph, c.pw, to_tokens, to.output()},
                    nullptr),
                0);
      EXPECT_TRUE(near(to.host(), expected, c.to == kF32 ? 0 : kBF16Tolerance)) << "order " << order;
    }
  }
};

TEST_P(CudaPatch, OfVideoIsThatOfPlainLoops) {
  const PatchCase& c = GetParam();
  const auto video = normal_in(c.from, c.video());
  std::vector<double> tokens(size_t(c.tokens() * c.features()));
  each_patch_element(c, true, [&](size_t in_tokens, size_t in_video) { tokens[in_tokens] = video[in_video]; });
  expect(c, true, video, tokens);
}

TEST_P(CudaPatch, OfTokensIsThatOfPlainLoops) {
  const PatchCase& c = GetParam();
  const auto tokens = normal_in(c.from, c.tokens() * c.features());
  std::vector<double> video(size_t(c.video()));  // what is left over stays 0
  each_patch_element(c, false, [&](size_t in_tokens, size_t in_video) { video[in_video] = tokens[in_tokens]; });
  expect(c, false, tokens, video);
}

INSTANTIATE_TEST_SUITE_P(Sizes, CudaPatch,
                         testing::Values(PatchCase{3, 2, 6, 10, 1, 2, 2, kF32, kBF16},
                                         PatchCase{5, 4, 6, 9, 2, 3, 3, kBF16, kF32},
                                         PatchCase{4, 1, 7, 11, 1, 2, 2, kF32, kF32},
                                         PatchCase{2, 5, 3, 5, 2, 1, 3, kBF16, kBF16},
                                         PatchCase{1, 1, 1, 1, 1, 1, 1, kF32, kF32}));

struct TransposeCase {
  int64_t channels, pixels;
  ElementType x, out;
  bool scale = true, shift = true;

  friend void PrintTo(const TransposeCase& c, std::ostream* out) { *out << c.channels << " x " << c.pixels; }
};

class CudaTranspose : public KernelTest, public testing::WithParamInterface<TransposeCase> {};

TEST_P(CudaTranspose, IsThatOfPlainLoopsBothWays) {
  const TransposeCase& c = GetParam();
  const auto x = normal_in(c.x, c.channels * c.pixels), scales = normal(c.channels), shifts = normal(c.channels);
  const DeviceVector<float> scale(scales), shift(shifts);
  const DeviceTensor dx(x, c.x);
  for (bool channels_last : {true, false}) {
    std::vector<double> expected(x.size());
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      for (int64_t pixel = 0; pixel < c.pixels; ++pixel) {
        const int64_t first = channel * c.pixels + pixel, last = pixel * c.channels + channel;
        double y = x[size_t(channels_last ? first : last)];
        if (c.scale) y *= scales[size_t(channel)];
        if (c.shift) y += shifts[size_t(channel)];
        expected[size_t(channels_last ? last : first)] = y;
      }
    }
    for (uint32_t order : kOrders) {
      emulate::order_seed = order;
      const DeviceTensor out(c.channels * c.pixels, c.out);
      EXPECT_EQ(launch_transpose({dx.input(), c.scale ? scale.data() : nullptr, c.shift ? shift.data() : nullptr,
                                  c.channels, c.pixels, channels_last, out.output()},
                                 nullptr),
                0);
      EXPECT_TRUE(near(out.host(), expected, tolerance_of(c.out))) << "order " << order;
    }
  }
}

// Tiles of both shapes, whole and cut on each side.
INSTANTIATE_TEST_SUITE_P(Sizes, CudaTranspose,
                         testing::Values(TransposeCase{64, 96, kF32, kF32}, TransposeCase{67, 45, kF32, kBF16},
                                         TransposeCase{33, 7, kBF16, kF32, false, true},
                                         TransposeCase{17, 70, kBF16, kBF16, false, false},
                                         TransposeCase{3, 300, kF32, kBF16}, TransposeCase{16, 256, kBF16, kF32},
                                         TransposeCase{5, 3, kF32, kF32, true, false},
                                         TransposeCase{1, 1, kF32, kF32, false, false}));

}  // namespace
}  // namespace liveavatar::cuda::emulated
