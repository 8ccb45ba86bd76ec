// The VAE with a library for its convolutions: those that it names are those that it calls, and its frames are those of
// our kernels within the rounding of bf16.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#include "models/wan_vae/static_image.h"
#include "models/wan_vae/wan_vae.h"
#include "ops/transfer.h"
#include "stand_in_library.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kRows = 1, kColumns = 2;  // in latents

class VaeConvsTest : public ::testing::Test {
 protected:
  struct Machine {
    explicit Machine(const EmulatedCard& card)
        : device(make_emulated_runtime(card), 0), budget(Budget::kUnlimited, device, host) {
      backend = *CudaBackend::open(device, {.tune = true, .budget = &budget});
      const auto source = *open_safetensors(std::string(LA_SOURCE_DIR) + "/tests/goldens/vae/weights.safetensors");
      vae = *WanVae::load(*source, *backend, budget, DType::kBF16);
    }
    OwnedTensor wave(const Shape& shape) {
      OwnedTensor owned = *OwnedTensor::allocate(budget, MemoryCategory::kVae, shape, DType::kF32);
      const Upload values(*backend, owned.tensor);
      for (size_t i = 0; i < values.values().size(); ++i) values.values()[i] = std::sin(0.37f * float(i));
      return owned;
    }
    std::vector<float> values_of(const Tensor& t) {
      const Download values(*backend, t);
      EXPECT_TRUE(device.status().ok()) << device.status().message();
      return {values.values().begin(), values.values().end()};
    }
    Budget host;
    CudaDevice device;
    Budget budget;
    std::unique_ptr<Backend> backend;
    std::unique_ptr<WanVae> vae;
  };

  EmulatedCard card(bool has_library) {
    EmulatedCard card;
    if (has_library) card.conv_library = [this] { return make_conv_stand_in(library_); };
    return card;
  }

  // By our kernels, once for all tests.
  const std::vector<float>& decoded_by_own() {
    static const std::vector<float> frames = [this] {
      Machine own(card(false));
      return decoded(own);
    }();
    return frames;
  }

  // The frames of the second latent.
  std::vector<float> decoded(Machine& m) {
    const auto stream = *VaeDecodeStream::open(*m.vae, m.budget, kRows, kColumns);
    const OwnedTensor z = m.wave({16, 1, kRows, kColumns}), frames = m.wave({4, 8 * kRows, 8 * kColumns, 3});
    EXPECT_TRUE(stream->step(z.tensor, frames.tensor).ok());
    library_.runs = 0;
    EXPECT_TRUE(stream->step(z.tensor, frames.tensor).ok());
    return m.values_of(frames.tensor);
  }

  // A latent of a still picture.
  std::vector<float> encoded(Machine& m) {
    const OwnedTensor image = m.wave({3, 8 * kRows, 8 * kColumns});
    const std::vector<int64_t> wanted{2};
    const OwnedTensor z = *encode_repeated(*m.vae, m.budget, image.tensor, wanted, {});
    return m.values_of(z.tensor);
  }

  StandIn library_{.milliseconds = 0.1};
};

void expect_close(const std::vector<float>& got, const std::vector<float>& want) {
  double squares = 0, difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += double(want[i]) * want[i];
    difference += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
  }
  EXPECT_GT(difference, 0);
  EXPECT_LT(std::sqrt(difference / squares), 0.02);
}

TEST_F(VaeConvsTest, DecodesByTheLibrary) {
  Machine m(card(true));
  const std::vector<float> got = decoded(m);
  // Blocks of two convolutions in the middle and in four stages of 1, 2, 4 and 4 frames, in parts of two frames; a
  // frame at a time where two are doubled in size. Four to be doubled are not quicker on the emulated device's clock.
  const int64_t blocks = m.vae->config().num_res_blocks + 1, middle = 2 * 2, doubled = 2;
  EXPECT_EQ(library_.runs, middle + 2 * blocks * (1 + 1 + 2 + 2) + doubled);
  expect_close(got, decoded_by_own());
}

TEST_F(VaeConvsTest, EncodesByTheLibrary) {
  Machine own(card(false)), m(card(true));
  const std::vector<float> got = encoded(m);
  EXPECT_GT(library_.runs, 0);
  expect_close(got, encoded(own));
  EXPECT_EQ(m.budget.used_bytes(MemoryCategory::kRuntime), 0u) << "scratch goes back with the stream";
}

TEST_F(VaeConvsTest, AWrongOneChangesNothing) {
  library_.fault = StandIn::Fault::kWrongValue;
  Machine m(card(true));
  EXPECT_EQ(decoded(m), decoded_by_own());
  EXPECT_EQ(library_.runs, 0);
  const std::vector<LibraryChoice>& choices = static_cast<CudaBackend&>(*m.backend).conv_choices();
  ASSERT_FALSE(choices.empty());
  for (const LibraryChoice& choice : choices) EXPECT_EQ(choice.why.find("refused: row "), 0u) << choice.why;
}

}  // namespace
}  // namespace liveavatar::cuda
