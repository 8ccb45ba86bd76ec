#include "fixture.h"
#include "models/wan_vae/static_image.h"
#include "support/sanitized.h"

namespace liveavatar {
namespace {

size_t pages(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

TEST_F(WanVaeTest, StreamsChargeWhatTheSizeFunctionSays) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    auto vae = load(dtype);
    EXPECT_EQ(budget_.used_bytes(MemoryCategory::kVae), 0u);
    const int64_t sizes[][2] = {{1, 1}, {2, 3}, {5, 4}};  // in latents
    for (auto [height, width] : sizes) {
      size_t encode_bytes = encode_stream_bytes(vae->config(), {8 * height, 8 * width, dtype});
      size_t decode_bytes = decode_stream_bytes(vae->config(), {height, width, dtype});
      auto encoder = value_of(VaeEncodeStream::open(*vae, budget_, 8 * height, 8 * width));
      EXPECT_EQ(budget_.used_bytes(MemoryCategory::kVae), pages(encode_bytes));
      encoder.reset();
      auto decoder = value_of(VaeDecodeStream::open(*vae, budget_, height, width));
      EXPECT_EQ(budget_.used_bytes(MemoryCategory::kVae), pages(decode_bytes));
    }
    EXPECT_EQ(budget_.used_bytes(MemoryCategory::kVae), 0u);
  }
}

// The largest value of a decoder, [4, H, W, dim], three times, and two frames of every causal convolution.
TEST_F(WanVaeTest, DecoderSizeIsWhatItsLayersNeed) {
  WanVaeConfig config = load()->config();
  int64_t height = 50, width = 90, pixels = height * width, dim = config.dim;  // in latents
  int64_t scratch = 3 * 4 * 64 * pixels * dim;
  int64_t past =
      (config.z_dim + 4 * 4 * dim) * pixels + 6 * 4 * dim * pixels + 4 * dim * pixels;  // conv1, middle, stage 1
  past += (2 * dim + 5 * 4 * dim) * 4 * pixels + 4 * dim * 4 * pixels;                  // stage 2
  past += 6 * 2 * dim * 16 * pixels + 7 * dim * 64 * pixels;                            // stages 3, 4, head
  size_t bytes = decode_stream_bytes(config, {height, width, DType::kF32});
  EXPECT_EQ(bytes, static_cast<size_t>(4 * (scratch + 2 * past)));
  EXPECT_EQ(decode_stream_bytes(config, {height, width, DType::kBF16}), bytes / 2);
}

TEST_F(WanVaeTest, LongVideosNeedNoMoreMemory) {
  auto vae = load(DType::kBF16);
  auto decoder = value_of(VaeDecodeStream::open(*vae, budget_, 2, 2));
  auto encoder = value_of(VaeEncodeStream::open(*vae, budget_, 16, 16));
  OwnedTensor z = wave({16, 1, 2, 2}), frames = zeros({4, 16, 16, 3}), pixels = wave({3, 4, 16, 16});
  size_t used = budget_.used_bytes(), peak = budget_.peak_bytes();
  ASSERT_TRUE(encoder->step(zeros({3, 1, 16, 16}).tensor, z.tensor).ok());
  peak = std::max(peak, budget_.peak_bytes());
  const int steps = kSanitized ? 5 : 20;
  for (int i = 0; i < steps; ++i) {
    ASSERT_TRUE(decoder->step(z.tensor, frames.tensor).ok());
    ASSERT_TRUE(encoder->step(pixels.tensor, z.tensor).ok());
    ASSERT_EQ(budget_.used_bytes(), used);
    ASSERT_EQ(budget_.peak_bytes(), peak);
  }
}

TEST_F(WanVaeTest, ABudgetTooSmallIsAnError) {
  auto vae = load();
  Budget small(budget_.peak_bytes());  // loading takes more than what stays
  auto tight = value_of(WanVae::load(*golden_weights(), *backend_, small, DType::kF32));
  Charge others =
      value_of(Charge::acquire(small, MemoryCategory::kRuntime, small.limit_bytes() - small.used_bytes() - 4096));
  EXPECT_EQ(VaeDecodeStream::open(*tight, small, 4, 4).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(VaeEncodeStream::open(*tight, small, 32, 32).status().code(), ErrorCode::kOutOfMemory);
  OwnedTensor picture = zeros({3, 32, 32});
  EXPECT_EQ(encode_static_image(*tight, small, picture.tensor).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(small.used_bytes(MemoryCategory::kVae), 0u);
  Budget none(1000);
  EXPECT_EQ(WanVae::load(*golden_weights(), *backend_, none, DType::kF32).status().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(none.used_bytes(), 0u);
}

}  // namespace
}  // namespace liveavatar
