// Frames decoded on a stream of their own while the next latents are computed on another: the bits of decoding in turns
// in any legal order of the two, and other ones where the decoder does not wait.
#include <gtest/gtest.h>

#include "ops/elementwise.h"
#include "ops/transfer.h"
#include "session/frame_decoder.h"
#include "session/noise.h"
#include "support/emulated_cuda.h"

namespace liveavatar {
namespace {

constexpr int64_t kBlocks = 3, kPlaces = 2, kSide = 2;  // latents of the third block where those of the first were

enum class Handover { kInTurns, kWaits, kDoesNotWait };

class EmulatedCardDecodeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (emulated_cuda() == nullptr) GTEST_SKIP() << "no device emulation in this build";
  }

  std::vector<uint8_t> frames(Handover handover, uint32_t stream_seed) {
    const std::unique_ptr<DeviceSource> card = emulated_cuda({.stream_seed = stream_seed});
    Budget host, budget(Budget::kUnlimited, card->allocator(), host);
    const auto sampling = std::move(*card->open({})), decoding = std::move(*card->open({}));
    const auto source = *open_safetensors(std::string(LA_SOURCE_DIR) + "/tests/goldens/vae/weights.safetensors");
    const auto vae = *WanVae::load(*source, *sampling, budget, DType::kF32);
    Sampler sampler(*sampling, budget);

    const Tensor portrait = sampler.portrait();
    if (handover == Handover::kWaits) sampling->wait(sampling->record());
    Backend* beside = handover == Handover::kInTurns ? nullptr : decoding.get();
    const auto decoder = *FrameDecoder::open(*vae, portrait, budget, {.backend = beside});
    std::vector<uint8_t> rgb;
    Tensor latents = sampler.block(0);
    for (int64_t b = 0; b < kBlocks; ++b) {
      const Event done = sampling->record();
      const Tensor next = sampler.block(b + 1);
      if (handover == Handover::kWaits) sampling->wait(done);
      for (int64_t f = 0; f < kBlockLatents; ++f) append(*decoder, latents, f, rgb);
      latents = next;
    }
    EXPECT_TRUE(sampling->synchronize().ok());
    return rgb;
  }

 private:
  // Latents as a sampler leaves them: noise, and work upon it that is done later.
  class Sampler {
   public:
    Sampler(Backend& backend, Budget& budget) : backend_(backend) {
      first_ = allocate(budget, 7);
      for (int64_t i = 0; i < kPlaces; ++i) places_.push_back(allocate(budget, kBlockLatents));
    }
    Tensor portrait() { return make(first_.tensor, 100); }
    Tensor block(int64_t b) { return make(places_[static_cast<size_t>(b % kPlaces)].tensor, static_cast<uint64_t>(b)); }

   private:
    static OwnedTensor allocate(Budget& budget, int64_t latents) {
      return *OwnedTensor::allocate(budget, MemoryCategory::kConditioning, {16, latents, kSide, kSide}, DType::kF32);
    }
    Tensor make(const Tensor& latents, uint64_t stream) {
      fill_noise(1, stream, Upload(backend_, latents).values());
      ops::add(backend_, latents, latents, latents, 0.5f);
      return latents;
    }
    Backend& backend_;
    OwnedTensor first_;
    std::vector<OwnedTensor> places_;
  };

  static void append(FrameDecoder& decoder, const Tensor& latents, int64_t frame, std::vector<uint8_t>& rgb) {
    const auto decoded = decoder.decode(latents, frame);
    ASSERT_TRUE(decoded.ok()) << decoded.status().message();
    rgb.insert(rgb.end(), *decoded, *decoded + decoder.pixels().elements());
  }
};

TEST_F(EmulatedCardDecodeTest, WaitsAreAsManyAsAreNeeded) {
  const std::vector<uint8_t> want = frames(Handover::kInTurns, 0);
  for (uint32_t seed : {0u, 1u, 2u}) EXPECT_EQ(frames(Handover::kWaits, seed), want) << "seed " << seed;
}

TEST_F(EmulatedCardDecodeTest, AMissingWaitChangesTheResult) {
  EXPECT_NE(frames(Handover::kDoesNotWait, 0), frames(Handover::kInTurns, 0));
}

}  // namespace
}  // namespace liveavatar
