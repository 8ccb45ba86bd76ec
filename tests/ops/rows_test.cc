// Norms, rotary and element-wise ops of every device against the reference.
#include "fixture.h"
#include "ops/conv.h"
#include "ops/elementwise.h"
#include "ops/layout.h"
#include "ops/linear.h"
#include "ops/make_backend.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace liveavatar {
namespace {

class RowsTest : public OpTest {};

TEST_P(RowsTest, Norms) {
  for (int64_t width : {1, 4, 5, 8, 16, 33, 96, 257}) {
    Tensor x = operands_.normal({9, width}, dtype(), 3.0f), gain = operands_.normal({width}),
           bias = operands_.normal({width});
    Modulation m{operands_.normal({3, width}), operands_.normal({3, width})};
    // A row of one element normalises to nothing but rounding; eps keeps it quiet.
    float eps = width == 1 ? 1.0f : 1e-6f;
    compare({9, width}, dtype(), [&](Backend& b, const Tensor& out) { ops::layer_norm(b, on(b, x), eps, out); });
    compare({9, width}, dtype(),
            [&](Backend& b, const Tensor& out) { ops::layer_norm(b, on(b, x), eps, out, on(b, m)); });
    compare({9, width}, dtype(), [&](Backend& b, const Tensor& out) {
      ops::layer_norm_affine(b, on(b, x), eps, on(b, gain), on(b, bias), out);
    });
    compare({9, width}, dtype(),
            [&](Backend& b, const Tensor& out) { ops::rms_norm(b, on(b, x), 1e-6f, on(b, gain), out); });
    compare({9, width}, dtype(), [&](Backend& b, const Tensor& out) {
      ops::channel_norm(b, on(b, x), on(b, gain), Activation::kSilu, out);
    });
  }
}

TEST_P(RowsTest, ChannelNormOfZerosIsZero) {
  Tensor x = operands_.zeros({2, 19}, dtype()), gain = operands_.normal({19});
  Tensor out = values_of(*backend_, {2, 19}, DType::kF32, [&](Backend& b, const Tensor& result) {
    ops::channel_norm(b, on(b, x), on(b, gain), Activation::kNone, result);
  });
  for (float v : floats(out)) EXPECT_EQ(v, 0.0f);
}

TEST_P(RowsTest, RopeAndElementwiseOps) {
  Tensor x = operands_.normal({7, 60}, dtype()), y = operands_.normal({7, 60}, dtype()),
         vector = operands_.normal({60});
  Tensor turns = operands_.normal({7, 10, 2});
  compare({7, 60}, dtype(), [&](Backend& b, const Tensor& out) { ops::rope(b, on(b, x), on(b, turns), 3, out); });
  compare({7, 60}, dtype(), [&](Backend& b, const Tensor& out) { ops::add(b, on(b, x), on(b, y), out, -0.7f); });
  compare({7, 60}, dtype(), [&](Backend& b, const Tensor& out) { ops::add(b, on(b, x), on(b, vector), out); });
  compare({7, 60}, dtype(), [&](Backend& b, const Tensor& out) { ops::multiply(b, on(b, x), on(b, y), out); });
  for (Activation act : {Activation::kGeluTanh, Activation::kGeluErf, Activation::kSilu, Activation::kRelu}) {
    compare({7, 60}, dtype(), [&](Backend& b, const Tensor& out) { ops::activate(b, on(b, x), act, out); });
  }
  compare({7, 60}, DType::kF32, [&](Backend& b, const Tensor& out) { ops::copy(b, on(b, x), out); });
  compare({7, 60}, DType::kBF16, [&](Backend& b, const Tensor& out) { ops::copy(b, on(b, x), out); });
}

TEST_P(RowsTest, LargeValuesStayFinite) {
  Tensor x = operands_.normal({3, 40}, dtype(), 200.0f);
  for (Activation act : {Activation::kGeluTanh, Activation::kGeluErf, Activation::kSilu}) {
    compare({3, 40}, dtype(), [&](Backend& b, const Tensor& out) { ops::activate(b, on(b, x), act, out); });
  }
}

TEST_P(RowsTest, Layouts) {
  Tensor x = operands_.normal({5, 4, 6, 10}, dtype()), scale = operands_.normal({5}), shift = operands_.normal({5});
  compare({4, 6, 10, 5}, dtype(),
          [&](Backend& b, const Tensor& out) { ops::channels_last(b, on(b, x), out, on(b, scale), on(b, shift)); });
  Tensor back = operands_.normal({4, 6, 10, 5}, dtype());
  compare({5, 4, 6, 10}, dtype(),
          [&](Backend& b, const Tensor& out) { ops::channels_first(b, on(b, back), out, on(b, scale), on(b, shift)); });
  compare({2 * 1 * 2, 5 * 2 * 4 * 4}, dtype(), [&](Backend& b, const Tensor& out) {
    ops::patchify(b, on(b, x), {2, 4, 4}, out);
  });
  Tensor tokens = operands_.normal({4 * 3 * 5, 4 * 5}, dtype());
  compare({5, 4, 6, 10}, dtype(), [&](Backend& b, const Tensor& out) {
    ops::unpatchify(b, on(b, tokens), {1, 2, 2}, out);
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, RowsTest, ::testing::ValuesIn(op_cases({DType::kF32, DType::kBF16})), op_case_name);

TEST(MakeBackend, NamesAnUnknownDeviceOrIsa) {
  auto device = make_backend("cuda9", {});
  ASSERT_FALSE(device.ok());
  EXPECT_NE(device.status().message().find("cuda9"), std::string::npos);
  auto isa = make_backend("cpu", {.isa = "mmx"});
  ASSERT_FALSE(isa.ok());
}

}  // namespace
}  // namespace liveavatar
