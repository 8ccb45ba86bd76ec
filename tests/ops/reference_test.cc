// The reference by hand: the numbers below were worked out on paper or are known constants, not taken from the engine.
#include <gtest/gtest.h>

#include "ops/attention.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/make_backend.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "support/operands.h"

namespace liveavatar {
namespace {

class ReferenceByHand : public ::testing::Test {
 protected:
  void SetUp() override { backend_ = *make_backend("reference", {.threads = 1}); }
  Tensor values(Shape shape, std::initializer_list<float> v) {
    Tensor t = operands_.zeros(shape);
    std::copy(v.begin(), v.end(), t.host<float>());
    return t;
  }
  Tensor counting(Shape shape) {
    Tensor t = operands_.zeros(shape);
    for (int64_t i = 0; i < t.elements(); ++i) t.host<float>()[i] = static_cast<float>(i);
    return t;
  }
  void expect_values(const Tensor& got, std::initializer_list<float> want) {
    ASSERT_EQ(got.elements(), static_cast<int64_t>(want.size()));
    size_t i = 0;
    for (float w : want) {
      EXPECT_NEAR(floats(got)[i], w, 2e-6f * std::max(1.0f, std::fabs(w))) << i;
      ++i;
    }
  }
  Operands operands_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(ReferenceByHand, Activations) {
  Tensor x = values({4}, {-1, 0, 1, 3}), out = operands_.zeros({4});
  ops::activate(*backend_, x, Activation::kGeluErf, out);
  expect_values(out, {-0.15865525f, 0, 0.84134475f, 2.9959503f});
  ops::activate(*backend_, x, Activation::kGeluTanh, out);
  expect_values(out, {-0.15880801f, 0, 0.84119199f, 2.9963627f});
  ops::activate(*backend_, x, Activation::kSilu, out);
  expect_values(out, {-0.26894142f, 0, 0.73105858f, 2.8577224f});
  ops::activate(*backend_, x, Activation::kRelu, out);
  expect_values(out, {0, 0, 1, 3});
}

TEST_F(ReferenceByHand, Norms) {
  Tensor x = values({2, 2}, {1, 3, -2, 2}), out = operands_.zeros({2, 2});
  ops::layer_norm(*backend_, x, 0, out);
  expect_values(out, {-1, 1, -1, 1});
  Modulation m{values({2, 2}, {10, 20, 30, 40}), values({2, 2}, {1, 2, 3, 4})};  // one group a row
  ops::layer_norm(*backend_, x, 0, out, m);
  expect_values(out, {-2 + 10, 3 + 20, -4 + 30, 5 + 40});
  ops::layer_norm_affine(*backend_, x, 3, values({2}, {2, 4}), values({2}, {1, 0}), out);  // variances 1 and 4
  expect_values(out, {1 - 2 * 0.5f, 4 * 0.5f, 1 - 2 * 2 / 2.6457513f, 4 * 2 / 2.6457513f});
  ops::rms_norm(*backend_, values({1, 2}, {3, 4}), 12.5f, values({2}, {10, 5}), out.slice(0, 1));  // mean square 12.5
  expect_values(out.slice(0, 1), {6, 4});
  ops::channel_norm(*backend_, values({1, 4}, {1, 1, 1, -1}), values({4}, {1, 2, 3, 4}), Activation::kRelu,
                    out.reshape({1, 4}));
  expect_values(out, {1, 2, 3, 0});
}

TEST_F(ReferenceByHand, Attention) {
  // Two heads of width 1. Head 0: scores 2 * ln(1), 2 * ln(2) over the segments -> weights 1/5, 4/5. Head 1: the bias
  // decides.
  Tensor q = values({1, 2}, {1, 0}), out = operands_.zeros({1, 2});
  const KeyValues segments[] = {{values({1, 2}, {0, 7}), values({1, 2}, {10, 100})},
                                {values({1, 2}, {std::log(2.0f), 9}), values({1, 2}, {20, 200})}};
  Tensor bias = values({2, 1, 2}, {0, 0, std::log(3.0f), 0});
  ops::attention(*backend_, q, segments, {.heads = 2, .scale = 2, .bias = bias}, out);
  expect_values(out, {0.2f * 10 + 0.8f * 20, 0.75f * 100 + 0.25f * 200});
}

TEST_F(ReferenceByHand, LinearGateGroups) {
  // Two groups of two rows; y = x * 1 + 1, relu, gate, residual.
  LinearWeight w{values({1, 1}, {1}).address(), DType::kF32, 1, 1, values({1}, {1})};
  Tensor out = operands_.zeros({4, 1});
  ops::linear(
      *backend_, values({4, 1}, {1, -5, 2, 3}), w, out,
      {.activation = Activation::kRelu, .gate = values({2, 1}, {10, 100}), .residual = values({4, 1}, {1, 2, 3, 4})});
  expect_values(out, {21, 2, 303, 404});
}

TEST_F(ReferenceByHand, ConvolutionGroupsStrideAndPadding) {
  // Two groups of one channel each; kernel of two columns, stride 2, one zero column on the right.
  Tensor x = values({1, 1, 3, 2}, {1, 10, 2, 20, 3, 30}), out = operands_.zeros({1, 1, 2, 2});
  ConvWeight w{
      values({2, 1, 1, 1, 2}, {1, 2, 3, 4}).address(), DType::kF32, 2, 2, {1, 1, 2}, 2, values({2}, {0.5f, 0})};
  ops::conv(*backend_, x, w, {.stride = {1, 1, 2}, .pad_right = 1}, out);
  expect_values(out, {1 + 4 + 0.5f, 30 + 80, 3 + 0.5f, 90});
}

TEST_F(ReferenceByHand, ConvolutionSeesDoubledPixels) {
  Tensor x = values({1, 1, 2, 1}, {1, 2}), out = operands_.zeros({1, 1, 3, 1});
  ConvWeight w{values({1, 1, 1, 2, 2}, {1, 10, 100, 1000}).address(), DType::kF32, 1, 1, {1, 2, 2}, 1, {}};
  ops::conv(*backend_, x, w, {.upsample2x = true}, out);  // doubled: two rows of 1 1 2 2
  expect_values(out, {1111, 2121, 2222});
}

TEST_F(ReferenceByHand, PatchesAndUnpatches) {
  // [C 2, F 1, H 2, W 5]: the fifth column is a remainder and falls away.
  Tensor tokens = operands_.zeros({2, 8});
  ops::patchify(*backend_, counting({2, 1, 2, 5}), {1, 2, 2}, tokens);
  expect_values(tokens, {0, 1, 5, 6, 10, 11, 15, 16, 2, 3, 7, 8, 12, 13, 17, 18});
  Tensor video = operands_.zeros({2, 1, 2, 4});
  ops::unpatchify(*backend_, counting({2, 8}), {1, 2, 2}, video);  // token features: (row, column, channel)
  expect_values(video, {0, 2, 8, 10, 4, 6, 12, 14, 1, 3, 9, 11, 5, 7, 13, 15});
}

TEST_F(ReferenceByHand, ChannelsAndEmbedding) {
  Tensor last = operands_.zeros({1, 1, 2, 3}), first = operands_.zeros({3, 1, 1, 2});
  Tensor scale = values({3}, {1, 2, 3}), shift = values({3}, {0, 0, 100});
  ops::channels_last(*backend_, counting({3, 1, 1, 2}), last, scale, shift);
  expect_values(last, {0, 4, 112, 1, 6, 115});
  ops::channels_first(*backend_, counting({1, 1, 2, 3}), first, scale, shift);
  expect_values(first, {0, 3, 2, 8, 106, 115});
  // Frames 1 and 2 of three become frames 0 and 1 of two.
  Tensor frames = operands_.zeros({2, 2, 2});
  ops::copy_frames(*backend_, counting({2, 3, 2}), frames, {1, 0, 2});
  expect_values(frames, {2, 3, 4, 5, 8, 9, 10, 11});
  ops::repeat_columns(*backend_, values({2}, {5, 7}), frames.reshape({2, 4}));
  expect_values(frames, {5, 5, 5, 5, 7, 7, 7, 7});
}

TEST_F(ReferenceByHand, PackingRoundsOnceToNearestEven) {
  Tensor weight = values({1, 3}, {1.00390625f, 1.01171875f, 1.0f});  // 1 + 2^-8 and 1 + 3 * 2^-8: halves
  uint16_t packed[3];
  backend_->pack_linear(weight, DType::kBF16, packed);
  EXPECT_EQ(packed[0], 0x3f80);
  EXPECT_EQ(packed[1], 0x3f82);
  EXPECT_EQ(packed[2], 0x3f80);
  EXPECT_EQ(backend_->packed_linear_bytes(1, 3, DType::kBF16), 6u);
}

TEST_F(ReferenceByHand, Bf16InAndOut) {
  Tensor x = operands_.zeros({1, 2}, DType::kBF16), out = operands_.zeros({1, 2}, DType::kBF16);
  const float in[] = {256, 1};
  convert_from_f32(in, x.address(), DType::kBF16, 2);
  ops::add(*backend_, x, values({2}, {1, 1}), out);  // 257 lies half way between 256 and 258: to even
  expect_values(out, {256, 2});
}

TEST_F(ReferenceByHand, LinearByHand) {
  Tensor weight = values({2, 3}, {1, 2, 3, 0, -1, 1}), out = operands_.zeros({1, 2});
  LinearWeight w{weight.address(), DType::kF32, 2, 3, values({2}, {10, 20})};
  ops::linear(*backend_, values({1, 3}, {1, 1, 2}), w, out,
              {.gate = values({1, 2}, {2, 3}), .residual = values({1, 2}, {100, 200})});
  EXPECT_EQ(floats(out), (std::vector<float>{2 * (9 + 10) + 100, 3 * (1 + 20) + 200}));
}

TEST_F(ReferenceByHand, CausalConvByHand) {
  Tensor weight = values({1, 1, 3, 1, 1}, {1, 10, 100}), x = values({2, 1, 1, 1}, {3, 4}),
         out = operands_.zeros({2, 1, 1, 1});
  ConvWeight w{weight.address(), DType::kF32, 1, 1, {3, 1, 1}, 1, {}};
  ops::conv(*backend_, x, w, {.zero_frames = 1, .history = values({1, 1, 1, 1}, {2})}, out);
  EXPECT_EQ(floats(out), (std::vector<float>{0 + 20 + 300, 2 + 30 + 400}));
}

TEST_F(ReferenceByHand, RopeRotatesPairs) {
  Tensor out = operands_.zeros({1, 4});
  ops::rope(*backend_, values({1, 4}, {1, 0, 0, 2}), values({1, 2, 2}, {0, 1, -1, 0}), 1, out);
  EXPECT_EQ(floats(out), (std::vector<float>{0, 1, 0, -2}));
}

// Two heads, two tokens; by key - query -1, 0, 1.
TEST_F(ReferenceByHand, RelativeBias) {
  Tensor out = operands_.zeros({2, 2, 2});
  ops::relative_bias(*backend_, values({2, 3}, {1, 2, 3, 4, 5, 6}), out);
  EXPECT_EQ(floats(out), (std::vector<float>{2, 3, 1, 2, 5, 6, 4, 5}));
}

TEST_F(ReferenceByHand, FillClampAndRgb) {
  Tensor x = values({5}, {-2, -1, 0, 0.5f, std::nanf("")}), out = operands_.zeros({5});
  uint8_t bytes[5];
  ops::to_rgb8(*backend_, x, Tensor(bytes, {5}, DType::kU8));
  EXPECT_EQ(std::vector<uint8_t>(bytes, bytes + 5), (std::vector<uint8_t>{0, 0, 128, 191, 0}));
  ops::clamp(*backend_, x.slice(0, 4), -1, 0.25f, out.slice(0, 4));
  EXPECT_EQ(floats(out), (std::vector<float>{-1, -1, 0, 0.25f, 0}));
  ops::fill(*backend_, out, 3);
  EXPECT_EQ(floats(out), std::vector<float>(5, 3.0f));
}

}  // namespace
}  // namespace liveavatar
