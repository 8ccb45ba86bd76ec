// The DiT from a packed file: the same bits with any number of layers in memory, and files that do not fit.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "models/s2v_dit/s2v_dit.h"
#include "ops/make_backend.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/dit";

class PagingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(kGolden + "/golden.json");
    config_ = *parse_dit_config(nlohmann::json::parse(file).at("config").dump(), "golden.json");
    source_ = *open_safetensors(kGolden + "/weights.safetensors");
    backend_ = *make_backend("cpu", {.threads = 2});
    path_ = dir_.file("dit.packed");
  }

  Status pack(DType dtype = DType::kBF16) {
    return pack_dit(config_, *source_, *backend_, budget_, {path_, dtype, {}});
  }

  // Prompt, sink, then two steps of two blocks: all velocities in one row.
  std::vector<float> run(const S2vDit& dit, DitWeightGroups& pages, DType dtype) {
    DitGeometry g;
    g.latent_height = 8;
    g.latent_width = 12;
    Arena measure;
    DitCaches(config_, g, 2, 1, dtype, measure);
    DitActivations(config_, g, dtype, measure);
    Arena arena = *Arena::allocate(budget_, MemoryCategory::kKvCache, measure.used_bytes());
    DitCaches caches(config_, g, 2, 1, dtype, arena);
    DitActivations a(config_, g, dtype, arena);
    DitSession session(g, std::move(caches), std::move(a));
    std::mt19937 random(7);
    std::vector<OwnedTensor> owned;
    auto normal = [&](Shape shape) {
      owned.push_back(*OwnedTensor::allocate(budget_, MemoryCategory::kRuntime, shape, DType::kF32));
      std::normal_distribution<float> values;
      for (int64_t i = 0; i < shape.elements(); ++i) owned.back().tensor.host<float>()[i] = values(random);
      return owned.back().tensor;
    };
    dit.encode_text(normal({9, config_.text_dim}), session);
    dit.prefill(normal({16, 1, 8, 12}), normal({16, 19, 8, 12}), pages, session);
    std::vector<float> all;
    for (int64_t block = 0; block < 2; ++block) {
      dit.encode_audio(normal({config_.audio_layers, config_.audio_dim, 12}), session, session.caches.actors.front());
      Tensor latents = normal({16, 3, 8, 12}), velocity = normal({16, 3, 8, 12});
      for (int64_t step = 0; step < 2; ++step) {
        BlockInputs in;
        in.latents = latents;
        in.timestep = 900 - 400 * double(step);
        in.step = step;
        in.start_latent = 3 * block;
        dit.forward(in, pages, session, velocity);
        all.insert(all.end(), velocity.host<float>(), velocity.host<float>() + velocity.elements());
      }
    }
    return all;
  }

  uint64_t bytes_of(const PackedDit& packed, const std::function<uint64_t(DitPart)>& times) const {
    const std::vector<DitWeightGroup> groups = dit_weight_groups(config_);
    uint64_t bytes = 0;
    for (size_t p = 0; p < groups.size(); ++p) bytes += times(groups[p].part) * packed.spans()[p].bytes;
    return bytes;
  }
  // The time projection is read for each of run()'s three timesteps, the prompt's weights once.
  uint64_t once_bytes(const PackedDit& packed) const {
    return bytes_of(packed, [](DitPart part) {
      if (part == DitPart::kTime) return 3;
      return part == DitPart::kPromptIn || part == DitPart::kPromptOut || part == DitPart::kTextKeys ? 1 : 0;
    });
  }
  // Whenever the order changes, two slots may have been read in vain: six times.
  uint64_t read_ahead_bytes(const PackedDit& packed) const {
    uint64_t largest = 0;
    for (const PageSpan& span : packed.spans()) largest = std::max<uint64_t>(largest, span.bytes);
    return 6 * PageMemory::kSlots * largest;
  }

  TempDir dir_;
  std::string path_;
  DitConfig config_;
  TensorSourcePtr source_;
  Budget budget_;
  std::unique_ptr<Backend> backend_;
};

TEST_F(PagingTest, AnyNumberOfLayersInMemoryGivesTheSameBits) {
  for (DType dtype : {DType::kBF16, DType::kF32}) {
    auto whole = S2vDit::load(config_, *source_, *backend_, budget_, dtype);
    ASSERT_TRUE(whole.ok()) << whole.status().message();
    std::vector<float> want = run(**whole, **(*whole)->open_weight_groups({config_.layers}, budget_), dtype);
    ASSERT_TRUE(pack(dtype).ok());
    auto packed = PackedDit::open(path_, *backend_, dtype);
    ASSERT_TRUE(packed.ok()) << packed.status().message();
    auto paged = *S2vDit::open(*packed, *backend_, budget_);
    for (int64_t resident = 0; resident <= config_.layers; ++resident) {
      auto pages = paged->open_weight_groups({resident}, budget_);
      ASSERT_TRUE(pages.ok());
      EXPECT_EQ(run(*paged, **pages, dtype), want) << resident << " layers in memory";
      EXPECT_TRUE((*pages)->status().ok());
      const PassBytes bytes = paged_bytes(config_, packed->spans(), {resident});
      const uint64_t read = (*pages)->counts().bytes_read, once = resident < config_.layers ? once_bytes(*packed) : 0;
      EXPECT_EQ(read == 0, resident == config_.layers);
      // A prefill and four forwards, the audio of two blocks, three timesteps and a prompt; what stays in a slot is not
      // read again. CountedGroups has the exact numbers.
      EXPECT_LE(read, 5 * bytes.pass.disk + 2 * bytes.block.disk + once + read_ahead_bytes(*packed)) << resident;
    }
  }
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

// Counts how often a forward takes each part, of those that it said it would.
class CountedGroups : public DitWeightGroups {
 public:
  CountedGroups(DitWeightGroups& groups, const DitConfig& config) : groups_(groups), of_(dit_weight_groups(config)) {}
  const DitGroupWeights& acquire(size_t group) override {
    const DitPart part = of_[group].part;
    EXPECT_TRUE(uses_.of(part)) << "part " << int(part) << " was not expected";
    ++taken[part];
    return groups_.acquire(group);
  }
  void release(size_t group, Event used) override { groups_.release(group, used); }
  void expect(const DitUses& uses) override { uses_ = uses; }
  Status status() const override { return groups_.status(); }
  std::map<DitPart, int64_t> taken;

 private:
  DitWeightGroups& groups_;
  std::vector<DitWeightGroup> of_;
  DitUses uses_;
};

TEST_F(PagingTest, AWeightIsReadAsOftenAsItIsNeeded) {
  auto dit = *S2vDit::load(config_, *source_, *backend_, budget_, DType::kF32);
  const std::unique_ptr<DitWeightGroups> whole = *dit->open_weight_groups({config_.layers}, budget_);
  CountedGroups counted(*whole, config_);
  run(*dit, counted, DType::kF32);
  // A prefill and four forwards, of two blocks at two timesteps each, the sink's being the third, and one prompt.
  const auto layers = config_.layers, audio = int64_t(config_.audio_inject_layers.size());
  const std::map<DitPart, int64_t> want{{DitPart::kTime, 3 * kModulationRows},
                                        {DitPart::kPromptIn, 1},
                                        {DitPart::kPromptOut, 1},
                                        {DitPart::kTextKeys, layers},
                                        {DitPart::kSelfAttention, 5 * layers},
                                        {DitPart::kSelfOutput, 5 * layers},
                                        {DitPart::kCrossAttention, 5 * layers},
                                        {DitPart::kFfnIn, 5 * layers},
                                        {DitPart::kFfnOut, 5 * layers},
                                        {DitPart::kAudioKeys, 2 * audio},
                                        {DitPart::kAudioShift, 2 * audio},
                                        {DitPart::kAudioScale, 2 * audio},
                                        {DitPart::kAudioAttention, 4 * audio}};
  EXPECT_EQ(counted.taken, want);
}

TEST_F(PagingTest, ReadingThatFailsEndsTheForwardWithTheReason) {
  ASSERT_TRUE(pack().ok());
  PackedDit packed = *PackedDit::open(path_, *backend_, DType::kBF16);
  auto dit = *S2vDit::open(packed, *backend_, budget_);
  fs::resize_file(path_, packed.header.pages[4].span.offset);
  auto pages = dit->open_weight_groups({}, budget_);
  ASSERT_TRUE(pages.ok());
  run(*dit, **pages, DType::kBF16);
  EXPECT_EQ((*pages)->status().code(), ErrorCode::kCorrupt);
  EXPECT_NE((*pages)->status().message().find(path_), std::string::npos);
  // With everything in memory it is said when the pages come.
  EXPECT_EQ(dit->open_weight_groups({config_.layers}, budget_).status().code(), ErrorCode::kCorrupt);
}

TEST_F(PagingTest, RefusesFilesPackedForAnotherTypeOrBackend) {
  ASSERT_TRUE(pack().ok());
  Status status = PackedDit::open(path_, *backend_, DType::kF32).status();
  EXPECT_NE(status.message().find("holds BF16, F32 is wanted"), std::string::npos) << status.message();
  auto reference = *make_backend("reference", {.threads = 1});
  status = PackedDit::open(path_, *reference, DType::kBF16).status();
  EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
  EXPECT_NE(status.message().find("liveavatar convert"), std::string::npos) << status.message();
  EXPECT_FALSE(PackedDit::open(kGolden + "/weights.safetensors", *backend_, DType::kBF16).ok());
}

TEST_F(PagingTest, PackingLeavesNoFileWhenStoppedOrATensorIsMissing) {
  PackJob job{path_, DType::kBF16, [](uint64_t bytes, uint64_t of_bytes) { return bytes < of_bytes / 2; }};
  EXPECT_EQ(pack_dit(config_, *source_, *backend_, budget_, job).code(), ErrorCode::kCancelled);
  DitConfig deeper = config_;
  ++deeper.layers;
  Status status = pack_dit(deeper, *source_, *backend_, budget_, {path_, DType::kBF16, {}});
  EXPECT_NE(status.message().find("blocks.3."), std::string::npos) << status.message();
  EXPECT_TRUE(fs::is_empty(dir_.path()));
  EXPECT_EQ(budget_.used_bytes(), 0u);
}

TEST(DitWeightGroupTest, APageIsNotTakenForAnotherPart) {
  const std::vector<DitGroupWeights> ffn{DitFfnInWeights{}};
  ResidentWeightGroups pages(ffn);
  EXPECT_EQ(&*DitWeightGuard<DitFfnInWeights>(pages, host_queue(), 0), std::get_if<DitFfnInWeights>(&ffn.front()));
  EXPECT_DEATH(DitWeightGuard<DitAudioAttentionWeights>(pages, host_queue(), 0), "broken contract");
}

TEST_F(PagingTest, AConfigRoundTripsThroughAFile) {
  DitConfig back = *parse_dit_config(dit_config_json(config_), "json");
  EXPECT_EQ(dit_config_json(back), dit_config_json(config_));
  EXPECT_EQ(back.audio_inject_layers, config_.audio_inject_layers);
  EXPECT_EQ(back.audio_layers, config_.audio_layers);
  EXPECT_EQ(back.eps, config_.eps);
}

}  // namespace
}  // namespace liveavatar
