// The video model with a library for its linear layers: those that it names are those that it calls, and its result is
// that of our kernels within the rounding of bf16.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/emulated/emulated_runtime.h"
#include "models/s2v_dit/s2v_dit.h"
#include "ops/transfer.h"
#include "stand_in_library.h"

namespace liveavatar::cuda {
namespace {

const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/dit";

class DitLinearsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(kGolden + "/golden.json");
    config_ = *parse_dit_config(nlohmann::json::parse(file).at("config").dump(), "golden.json");
    source_ = *open_safetensors(kGolden + "/weights.safetensors");
  }

  OwnedTensor uniform(Backend& backend, Budget& budget, Shape shape) {
    OwnedTensor owned = *OwnedTensor::allocate(budget, MemoryCategory::kRuntime, shape, DType::kF32);
    const Upload values(backend, owned.tensor);
    uint32_t state = 7;
    for (float& value : values.values()) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(state >> 8) * 0x1p-23f - 1;
    }
    return owned;
  }

  // The velocity of the first block.
  std::vector<float> velocity(bool has_library) {
    EmulatedCard card;
    if (has_library) card.linear_library = [this] { return make_stand_in(library_); };
    CudaDevice device(make_emulated_runtime(card), 0);
    Budget host, budget(Budget::kUnlimited, device, host);
    auto backend = *CudaBackend::open(device, {.tune = true, .budget = &budget});
    const DitTypes types(DType::kBF16);
    auto dit = *S2vDit::load(config_, *source_, *backend, budget, types);
    auto pages = *dit->open_weight_groups({config_.layers}, budget);
    const DitGeometry g{.latent_height = 8, .latent_width = 12};
    EXPECT_TRUE(backend->reserve(largest_ops(config_, g, types)).ok());
    Arena measure;
    DitCaches(config_, g, 1, 1, types, measure);
    DitActivations(config_, g, types.values, measure);
    Arena arena = *Arena::allocate(budget, MemoryCategory::kKvCache, measure.used_bytes());
    DitCaches caches(config_, g, 1, 1, types, arena);
    DitActivations activations(config_, g, types.values, arena);
    DitSession session(g, std::move(caches), std::move(activations));
    const OwnedTensor text = uniform(*backend, budget, {9, config_.text_dim});
    const OwnedTensor reference = uniform(*backend, budget, {16, 1, 8, 12});
    const OwnedTensor motion = uniform(*backend, budget, {16, 19, 8, 12});
    const OwnedTensor sound = uniform(*backend, host, {config_.audio_layers, config_.audio_dim, 12});
    const OwnedTensor latents = uniform(*backend, budget, {16, 3, 8, 12});
    const OwnedTensor out = uniform(*backend, budget, {16, 3, 8, 12});
    dit->encode_text(text.tensor, session);
    dit->prefill(reference.tensor, motion.tensor, *pages, session);
    dit->encode_audio(sound.tensor, session, session.caches.actors.front());
    library_.runs = 0;
    dit->forward({.latents = latents.tensor, .timestep = 900}, *pages, session, out.tensor);
    const Download values(*backend, out.tensor);
    EXPECT_TRUE(device.status().ok()) << device.status().message();
    return {values.values().begin(), values.values().end()};
  }

  DitConfig config_;
  TensorSourcePtr source_;
  StandIn library_;
};

TEST_F(DitLinearsTest, EveryLargeLayerOfABlockIsTheLibrarys) {
  const std::vector<float> got = velocity(true);
  // q, k, v and the output of self-attention; q and the output of attention to the prompt; two of the FFN
  const int64_t of_a_layer = 8, of_an_audio_attention = 2;
  EXPECT_EQ(library_.runs, config_.layers * of_a_layer +
                               static_cast<int64_t>(config_.audio_inject_layers.size()) * of_an_audio_attention);
  const std::vector<float> want = velocity(false);
  double squares = 0, difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    squares += double(want[i]) * want[i];
    difference += (double(got[i]) - want[i]) * (double(got[i]) - want[i]);
  }
  EXPECT_GT(difference, 0);
  EXPECT_LT(std::sqrt(difference / squares), 0.02);
}

}  // namespace
}  // namespace liveavatar::cuda
