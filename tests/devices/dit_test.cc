// The DiT on a device whose memory the host cannot touch and whose work comes late: to the bit as on the host, with
// weights and keys and values in memory or on disk. And what that device is there to catch is caught.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "models/s2v_dit/s2v_dit.h"
#include "ops/elementwise.h"
#include "ops/make_backend.h"
#include "ops/transfer.h"
#include "support/emulated_cuda.h"
#include "support/sanitized.h"
#include "support/temp_dir.h"
#include "test_device.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/dit";
constexpr int64_t kSteps = 2, kBlocks = 5;  // over more than a clip

// What a run is made on.
struct Machine {
  explicit Machine(uint64_t seed)
      : Machine(std::make_unique<TestDevice>(TestDeviceOptions{.seed = seed, .most_delay_us = 150})) {}
  explicit Machine(std::unique_ptr<DeviceSource> source) : device(std::move(source)) {
    budget = std::make_unique<Budget>(Budget::kUnlimited, device->allocator(), host);
    backend = std::move(*device->open({.threads = 1}));
  }
  std::unique_ptr<DeviceSource> device;
  Budget host;
  std::unique_ptr<Budget> budget;
  std::unique_ptr<Backend> backend;
};

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(kGolden + "/golden.json");
    config_ = *parse_dit_config(nlohmann::json::parse(file).at("config").dump(), "golden.json");
    source_ = *open_safetensors(kGolden + "/weights.safetensors");
  }

  OwnedTensor normal(Backend& backend, Budget& budget, Shape shape) {
    OwnedTensor owned = *OwnedTensor::allocate(budget, MemoryCategory::kRuntime, shape, DType::kF32);
    std::normal_distribution<float> draw;
    const Upload values(backend, owned.tensor);
    for (float& value : values.values()) value = draw(random_);
    return owned;
  }

  // Prompt, sink, then all steps of all blocks: all velocities in one row. queue: what pages of keys and values wait
  // for; null: they stay in memory.
  std::vector<float> run(const S2vDit& dit, DitWeightGroups& pages, Backend& backend, Budget& budget,
                         WorkQueue* queue = nullptr) {
    random_.seed(7);
    DitGeometry g{.latent_height = 8, .latent_width = 12};
    const DitSteps steps(kSteps, queue != nullptr);
    Arena measure;
    DitCaches(config_, g, steps, 1, dit.types(), measure);
    DitActivations(config_, g, dit.types().values, measure);
    Arena arena = *Arena::allocate(budget, MemoryCategory::kKvCache, measure.used_bytes());
    DitCaches caches(config_, g, steps, 1, dit.types(), arena);
    DitActivations a(config_, g, dit.types().values, arena);
    if (queue != nullptr) {
      KvCacheShape shape{config_, g, kSteps, dit.types().kv, 0, kv_caches_in_host_};
      caches.kv = *PagedKvCaches::open(shape, dir_.string(), *allocate_kv_cache_pages(shape, budget), *queue);
    }
    DitSession session(g, std::move(caches), std::move(a));
    OwnedTensor text = normal(backend, budget, {9, config_.text_dim}), ref = normal(backend, budget, {16, 1, 8, 12}),
                motion = normal(backend, budget, {16, 19, 8, 12});
    dit.encode_text(text.tensor, session);
    dit.prefill(ref.tensor, motion.tensor, pages, session);
    std::vector<float> all;
    for (int64_t block = 0; block < kBlocks; ++block) {
      OwnedTensor sound = normal(backend, budget.host(), {config_.audio_layers, config_.audio_dim, 12});
      OwnedTensor latents = normal(backend, budget, {16, 3, 8, 12}), velocity = normal(backend, budget, {16, 3, 8, 12});
      dit.encode_audio(sound.tensor, session, session.caches.actors.front());
      for (int64_t step = 0; step < kSteps; ++step) {
        BlockInputs in{.latents = latents.tensor, .timestep = 900 - 400 * double(step), .step = step};
        in.start_latent = g.block_latents * block;
        session.caches.kv->expect(uses_of(step));
        dit.forward(in, pages, session, velocity.tensor);
        const Download values(backend, velocity.tensor);
        all.insert(all.end(), values.values().begin(), values.values().end());
      }
    }
    EXPECT_TRUE(backend.synchronize().ok());
    EXPECT_TRUE(session.caches.kv->status().ok());
    return all;
  }

  std::vector<KvCacheKey> uses_of(int64_t step) const {
    std::vector<KvCacheKey> uses;
    for (int64_t s : {step, (step + 1) % kSteps}) {
      for (int64_t layer = 0; layer < config_.layers; ++layer) uses.push_back({s, layer});
    }
    return uses;
  }

  std::vector<float> on_host(const DitTypes& types) {
    Budget budget;
    auto backend = std::move(*make_backend("reference", {.threads = 1}));
    auto dit = *S2vDit::load(config_, *source_, *backend, budget, types);
    return run(*dit, **dit->open_weight_groups({config_.layers}, budget), *backend, budget);
  }

  TempDir dir_;
  int64_t kv_caches_in_host_ = 0;  // of those that are not on the device
  DitConfig config_;
  TensorSourcePtr source_;
  std::mt19937 random_;
};

DitTypes narrow() {
  DitTypes types(DType::kBF16);
  types.weights = types.kv = DType::kI8;
  return types;
}

TEST_F(DeviceTest, GivesTheHostsBits) {
  for (const DitTypes& types : {DitTypes(DType::kF32), narrow()}) {
    const std::vector<float> want = on_host(types);
    for (uint64_t seed = 1; seed <= (kSanitized ? 1 : 2); ++seed) {
      Machine m(seed);
      auto dit = *S2vDit::load(config_, *source_, *m.backend, *m.budget, types);
      auto pages = *dit->open_weight_groups({config_.layers}, *m.budget);
      EXPECT_EQ(run(*dit, *pages, *m.backend, *m.budget), want);
      EXPECT_EQ(run(*dit, *pages, *m.backend, *m.budget, m.backend.get()), want) << "keys and values on disk";
    }
  }
}

TEST_F(DeviceTest, WeightsFromDiskGiveTheHostsBits) {
  const DitTypes types = narrow();
  const std::vector<float> want = on_host(types);
  std::string path = dir_.file("dit.packed");
  Machine m(3);
  ASSERT_TRUE(pack_dit(config_, *source_, *m.backend, *m.budget, {path, types, {}}).ok());
  auto dit = *S2vDit::open(*PackedDit::open(path, *m.backend, types), *m.backend, *m.budget);
  const int64_t between = kSanitized ? config_.layers : 1;  // none and all
  for (int64_t resident = 0; resident <= config_.layers; resident += between) {
    for (int64_t in_host : {int64_t{0}, (config_.layers - resident + 1) / 2}) {
      auto pages = *dit->open_weight_groups({resident, in_host}, *m.budget);
      kv_caches_in_host_ = in_host;  // some of them
      EXPECT_EQ(run(*dit, *pages, *m.backend, *m.budget, m.backend.get()), want)
          << resident << " layers on the device, " << in_host << " in host memory";
      EXPECT_TRUE(pages->status().ok());
    }
  }
}

TEST_F(DeviceTest, WeightsKeysAndValuesInHostMemoryGiveTheHostsBits) {
  const DitTypes types = narrow();
  const std::vector<float> want = on_host(types);
  Machine m(5);
  WeightLoader loader(*source_, *m.backend, *m.budget, MemoryCategory::kWeights, types);
  auto dit = *S2vDit::load_beside(config_, types, loader, *m.backend, *m.budget);
  kv_caches_in_host_ = kSteps * config_.layers;
  for (int64_t resident : {int64_t{0}, int64_t{1}, config_.layers}) {
    auto pages = *dit->open_weight_groups({resident}, *m.budget);
    EXPECT_EQ(run(*dit, *pages, *m.backend, *m.budget, m.backend.get()), want) << resident << " layers on the device";
    const PagingCounts counts = pages->counts();
    EXPECT_EQ(counts.bytes_read, 0u);
    EXPECT_EQ(counts.bytes_to_device > 0, resident < config_.layers);
  }
}

// What the device is for. Pages that do not wait for the work on them are overwritten under it.
TEST_F(DeviceTest, AMissingWaitChangesTheResult) {
  const std::vector<float> want = on_host(DType::kF32);
  Machine m(4);
  auto dit = *S2vDit::load(config_, *source_, *m.backend, *m.budget, DType::kF32);
  auto pages = *dit->open_weight_groups({config_.layers}, *m.budget);
  EXPECT_NE(run(*dit, *pages, *m.backend, *m.budget, &host_queue()), want);
}

// On the emulated card work runs when it is waited for: as late as it may, or ahead in any order that is legal.
class EmulatedCardTest : public DeviceTest {
 protected:
  void SetUp() override {
    if (emulated_cuda() == nullptr) GTEST_SKIP() << "no device emulation in this build";
    DeviceTest::SetUp();
  }
};

TEST_F(EmulatedCardTest, WaitsAreAsManyAsAreNeeded) {
  for (const DitTypes& types : {DitTypes(DType::kF32), narrow()}) {
    std::vector<float> want;
    for (uint32_t seed : {0u, 1u}) {
      Machine m(emulated_cuda({.stream_seed = seed}));
      auto dit = *S2vDit::load(config_, *source_, *m.backend, *m.budget, types);
      auto pages = *dit->open_weight_groups({config_.layers}, *m.budget);
      const std::vector<float> in_memory = run(*dit, *pages, *m.backend, *m.budget);
      if (want.empty()) want = in_memory;
      EXPECT_EQ(in_memory, want) << "seed " << seed;
      EXPECT_EQ(run(*dit, *pages, *m.backend, *m.budget, m.backend.get()), want) << "on disk, seed " << seed;
      WeightLoader loader(*source_, *m.backend, *m.budget, MemoryCategory::kWeights, types);
      auto beside = *S2vDit::load_beside(config_, types, loader, *m.backend, *m.budget);
      auto moving = *beside->open_weight_groups({1}, *m.budget);
      kv_caches_in_host_ = kSteps * config_.layers - 1;
      EXPECT_EQ(run(*beside, *moving, *m.backend, *m.budget, m.backend.get()), want) << "in host memory, seed " << seed;
      kv_caches_in_host_ = 0;
    }
  }
}

TEST_F(EmulatedCardTest, AMissingWaitChangesTheResult) {
  Machine m(emulated_cuda());
  auto dit = *S2vDit::load(config_, *source_, *m.backend, *m.budget, DType::kF32);
  auto pages = *dit->open_weight_groups({config_.layers}, *m.budget);
  const std::vector<float> want = run(*dit, *pages, *m.backend, *m.budget);
  EXPECT_NE(run(*dit, *pages, *m.backend, *m.budget, &host_queue()), want);
}

TEST_F(DeviceTest, OpsFinishAfterTheirCallsReturn) {
  TestDevice device(TestDeviceOptions{.most_delay_us = 20000});
  Budget host, budget(Budget::kUnlimited, device.allocator(), host);
  auto backend = std::move(*device.open({.threads = 1}));
  OwnedTensor x = *OwnedTensor::allocate(budget, MemoryCategory::kRuntime, {4}, DType::kF32);
  float before = 0;
  ASSERT_TRUE(device.allocator().read(x.buffer.data(), &before, sizeof(before)).ok());
  EXPECT_NE(before, before) << "fresh memory is NaN";
  for (int i = 0; i < 100; ++i) ops::fill(*backend, x.tensor, float(i));
  float early = 0;
  ASSERT_TRUE(device.allocator().read(x.buffer.data(), &early, sizeof(early)).ok());
  EXPECT_NE(early, 99.0f);
  EXPECT_EQ(Download(*backend, x.tensor).f32()[3], 99.0f);
}

TEST(DeviceDeathTest, AHostAccessToDeviceMemoryAsserts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Machine m(5);
  OwnedTensor x = *OwnedTensor::allocate(*m.budget, MemoryCategory::kRuntime, {4}, DType::kF32);
  EXPECT_DEATH(x.tensor.host<float>(), "is_host");
  EXPECT_DEATH(static_cast<volatile float*>(x.tensor.address())[0] = 1, "");  // by a signal, or by a sanitizer
  float mine[4] = {};
  EXPECT_DEATH(ops::fill(*m.backend, Tensor(mine, {4}, DType::kF32), 0), "on_device");
}

}  // namespace
}  // namespace liveavatar
