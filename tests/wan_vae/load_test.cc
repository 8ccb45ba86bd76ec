#include <limits>

#include "fixture.h"

namespace liveavatar {
namespace {

// The golden weights with single tensors removed, added, reshaped or damaged.
class Altered : public TensorSource {
 public:
  Altered() : base_(golden_weights()), tensors_(base_->tensors()) {}
  void remove(const std::string& name) { tensors_.erase(name); }
  void reshape(const std::string& name, Shape shape) { tensors_[name].shape = shape; }
  void spoil(const std::string& name) { spoilt_ = name; }

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  std::string where() const override { return "altered.pth"; }
  Status read_part(const std::string& name, TensorPart part, void* target) const override {
    const TensorInfo& info = tensors_.at(name);
    auto* values = static_cast<float*>(target);
    auto it = base_->tensors().find(name);
    if (it != base_->tensors().end() && it->second.shape == info.shape)
      LA_RETURN_IF_ERROR(base_->read_part(name, part, target));
    if (name == spoilt_) values[0] = std::numeric_limits<float>::quiet_NaN();
    return {};
  }

 private:
  TensorSourcePtr base_;
  std::map<std::string, TensorInfo> tensors_;
  std::string spoilt_;
};

class WanVaeLoadTest : public WanVaeTest {
 protected:
  // The message with which loading fails; it must name the tensor and the file, in one line.
  void expect_named(const TensorSource& source, const std::string& name) {
    auto vae = WanVae::load(source, *backend_, budget_, DType::kF32);
    ASSERT_FALSE(vae.ok()) << name;
    const std::string& message = vae.status().message();
    EXPECT_NE(message.find(name), std::string::npos) << message;
    EXPECT_NE(message.find("altered.pth"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(budget_.used_bytes(), 0u);
  }
};

TEST_F(WanVaeLoadTest, ConfigComesFromTheTensors) {
  WanVaeConfig config = load()->config();
  EXPECT_EQ(config.dim, 8);
  EXPECT_EQ(config.z_dim, 16);
  EXPECT_EQ(config.dim_mult, (std::vector<int64_t>{1, 2, 4, 4}));
  EXPECT_EQ(config.num_res_blocks, 2);
  EXPECT_EQ(config.temporal_downsample, (std::vector<bool>{false, true, true}));
}

// Whichever tensor is missing or misshaped, its name is in the error.
TEST_F(WanVaeLoadTest, EveryMissingTensorIsNamed) {
  TensorSourcePtr whole = golden_weights();
  for (const auto& [name, info] : whole->tensors()) {
    Altered source;
    source.remove(name);
    expect_named(source, name);
  }
}

TEST_F(WanVaeLoadTest, EveryMisshapedTensorIsNamed) {
  TensorSourcePtr whole = golden_weights();
  for (const auto& [name, info] : whole->tensors()) {
    Altered source;
    Shape shape{info.shape[0] + 2};
    for (int i = 1; i < info.shape.rank(); ++i) shape.push_back(info.shape[i]);
    source.reshape(name, shape);
    auto vae = WanVae::load(source, *backend_, budget_, DType::kF32);
    ASSERT_FALSE(vae.ok()) << name;
    // Where a width of the whole model is read from it, what no longer fits beside it is named.
    bool sets_widths = name == "encoder.conv1.weight" || name.ends_with("residual.6.weight");
    EXPECT_TRUE(sets_widths || vae.status().message().find(name) != std::string::npos) << vae.status().message();
    EXPECT_NE(vae.status().message().find("altered.pth"), std::string::npos) << vae.status().message();
  }
}

TEST_F(WanVaeLoadTest, RefusesInconsistentSources) {
  Altered extra;
  extra.reshape("decoder.upsamples.15.residual.0.gamma", {8, 1, 1, 1});
  expect_named(extra, "decoder.upsamples.15.residual.0.gamma");
  Altered spoilt;
  spoilt.spoil("decoder.middle.1.to_qkv.weight");
  expect_named(spoilt, "decoder.middle.1.to_qkv.weight");
  Altered longer;
  longer.reshape("encoder.downsamples.11.residual.0.gamma", {8, 1, 1, 1});
  expect_named(longer, "encoder.downsamples");
  Altered wide;
  wide.reshape("conv2.weight", {48, 48, 1, 1, 1});
  expect_named(wide, "48 channels");
  Altered scalar;
  scalar.reshape("encoder.conv1.weight", {});
  expect_named(scalar, "encoder.conv1.weight");
  Altered none;
  TensorSourcePtr whole = golden_weights();
  for (const auto& [name, info] : whole->tensors()) none.remove(name);
  expect_named(none, "encoder.conv1.weight");
}

TEST_F(WanVaeLoadTest, WeightsAreChargedAndReleased) {
  auto vae = load(DType::kBF16);
  size_t bf16_bytes = budget_.used_bytes(MemoryCategory::kWeights);
  vae = nullptr;
  EXPECT_EQ(budget_.used_bytes(), 0u);
  vae = load(DType::kF32);
  EXPECT_GT(bf16_bytes, 0u);
  EXPECT_GT(budget_.used_bytes(MemoryCategory::kWeights), bf16_bytes);
}

// Counted by hand for the published VAE (96 channels) at 720 x 400 pixels.
TEST(WanVaeConfigTest, CountsFloatingPointOperations) {
  WanVaeConfig config;
  config.dim = 96;
  EXPECT_EQ(decode_flops_per_frame(config, 50, 90), 2'439'902'016'000);
  EXPECT_EQ(encode_flops_per_latent(config, 400, 720), 5'794'389'504'000);
}

}  // namespace
}  // namespace liveavatar
