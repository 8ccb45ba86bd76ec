// Long voices: windows against the whole, bounded memory, ends and silence.
#include "models/wav2vec2/audio_features.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "ops/make_backend.h"

namespace liveavatar {
namespace {

// A voice whose file gets shorter while it is in use.
class ShrinkingSource : public SampleSource {
 public:
  using SampleSource::SampleSource;
  void cut(int64_t samples) { left_ = samples; }
  Expected<int64_t> read(float* samples, int64_t count) override {
    auto got = SampleSource::read(samples, std::min(count, left_));
    if (got.ok()) left_ -= *got;
    return got;
  }

 private:
  int64_t left_ = int64_t{1} << 40;
};

// A voice-like tone whose pitch and loudness wander.
std::vector<float> wandering(double seconds) {
  std::mt19937 random(3);
  std::normal_distribution<float> noise(0, 0.02f);
  std::vector<float> samples(static_cast<size_t>(seconds * kModelRateHz));
  double phase = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    double t = double(i) / kModelRateHz;
    phase += (140 + 60 * std::sin(2.1 * t)) / kModelRateHz * 6.283185307;
    samples[i] = static_cast<float>((0.3 + 0.25 * std::sin(5.3 * t)) * std::sin(phase)) + noise(random);
  }
  return samples;
}

class AudioFeaturesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    backend_ = *make_backend("cpu", {.threads = 2});
    auto model =
        Wav2Vec2::load(std::string(LA_SOURCE_DIR) + "/tests/goldens/wav2vec2", *backend_, budget_, DType::kF32);
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = *std::move(model);
  }
  Expected<std::unique_ptr<AudioFeatures>> open_features(MonoSource& source, const AudioFeaturesOptions& options) {
    LA_ASSIGN_OR_RETURN(Loudness loudness, measure_loudness(source));
    return AudioFeatures::open(*model_, budget_, source, loudness, options);
  }
  std::vector<float> all_columns(AudioFeatures& features, int64_t count) {
    std::vector<float> out(size_t(features.layers() * features.width() * count)),
        block(size_t(features.layers() * features.width() * 12));
    for (int64_t c = 0; c + 12 <= count; c += 12) {
      EXPECT_TRUE(features.columns(c, 12, block.data()).ok());
      for (int64_t r = 0; r < features.layers() * features.width(); ++r)
        std::copy_n(&block[size_t(r * 12)], 12, &out[size_t(r * count + c)]);
    }
    return out;
  }
  Budget budget_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Wav2Vec2> model_;
};

TEST_F(AudioFeaturesTest, WindowedFeaturesAreNearThoseOfTheWholeAudio) {
  std::vector<float> voice = wandering(20);
  SampleSource a(voice), b(voice);
  auto whole = *open_features(a, {});
  auto windows = *open_features(b, {.full_seconds = 5, .window_seconds = 8, .context_seconds = 2});
  EXPECT_EQ(voice_frames(whole->voice_samples(), 25), 500);
  std::vector<float> want = all_columns(*whole, 480), got = all_columns(*windows, 480);
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += double(got[i] - want[i]) * (got[i] - want[i]);
    size += double(want[i]) * want[i];
  }
  EXPECT_GT(error, 0);  // another attention span cannot give the same bits
  // Random weights attend evenly over all they see, which is the worst case for a window. Measured: 0.067 here, and
  // 0.035 with the default windows (24 s, 3 s of context) over 90 s.
  EXPECT_LT(std::sqrt(error / size), 0.08);
}

TEST_F(AudioFeaturesTest, MemoryDoesNotGrowWithTheVoice) {
  size_t used[2];
  for (int i = 0; i < 2; ++i) {
    SampleSource source(wandering(i == 0 ? 12 : 40));
    auto features = *open_features(source, {.full_seconds = 5, .window_seconds = 8, .context_seconds = 2});
    all_columns(*features, i == 0 ? 240 : 960);
    used[i] = budget_.used_bytes();
  }
  EXPECT_EQ(used[0], used[1]);
}

TEST_F(AudioFeaturesTest, ColumnsAfterTheAudioAreZero) {
  SampleSource source(wandering(1));
  auto features = *open_features(source, {});
  std::vector<float> out(size_t(features->layers() * features->width() * 12), 1.0f);
  ASSERT_TRUE(features->columns(1000, 12, out.data()).ok());
  for (float v : out) EXPECT_EQ(v, 0.0f);
}

TEST_F(AudioFeaturesTest, RereadingGivesTheSameColumns) {
  SampleSource source(wandering(20));
  auto features = *open_features(source, {.full_seconds = 5, .window_seconds = 8, .context_seconds = 2});
  size_t n = size_t(features->layers() * features->width() * 12);
  std::vector<float> first(n), later(n), again(n);
  ASSERT_TRUE(features->columns(0, 12, first.data()).ok());
  ASSERT_TRUE(features->columns(400, 12, later.data()).ok());
  ASSERT_TRUE(features->columns(0, 12, again.data()).ok());
  EXPECT_EQ(first, again);
}

TEST_F(AudioFeaturesTest, ColumnsDoNotDependOnTheOrderOfReads) {
  const AudioFeaturesOptions options{.full_seconds = 5, .window_seconds = 8, .context_seconds = 2};
  SampleSource a(wandering(20)), b(wandering(20));
  auto in_order = *open_features(a, options), jumping = *open_features(b, options);
  int64_t rows = in_order->layers() * in_order->width();
  std::vector<float> want = all_columns(*in_order, 480), one(static_cast<size_t>(rows));
  for (int64_t column : {int64_t{137}, int64_t{301}, int64_t{479}, int64_t{99}}) {
    ASSERT_TRUE(jumping->columns(column, 1, one.data()).ok());
    for (int64_t r = 0; r < rows; ++r) ASSERT_EQ(one[size_t(r)], want[size_t(r * 480 + column)]) << column;
  }
}

TEST_F(AudioFeaturesTest, RefusesAudioThatShrinksBetweenReads) {
  ShrinkingSource source(wandering(3));
  auto features = *open_features(source, {});
  source.cut(16000);
  std::vector<float> out(size_t(features->layers() * features->width()));
  Status status = features->columns(0, 1, out.data());
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("ended earlier"), std::string::npos) << status.message();
}

TEST_F(AudioFeaturesTest, ReturnsAReadErrorOfTheSource) {
  class Broken : public MonoSource {
    Expected<int64_t> read(float*, int64_t) override { return corrupt("voice.wav: broken at 1.2 s"); }
    Status rewind() override { return {}; }
  } source;
  auto features = open_features(source, {});
  ASSERT_FALSE(features.ok());
  EXPECT_EQ(features.status().message(), "voice.wav: broken at 1.2 s");
}

TEST_F(AudioFeaturesTest, ABudgetTooSmallIsAnError) {
  Budget small(200 << 20);
  auto model = Wav2Vec2::load(std::string(LA_SOURCE_DIR) + "/tests/goldens/wav2vec2", *backend_, small, DType::kF32);
  ASSERT_TRUE(model.ok()) << model.status().message();
  auto ballast =
      Buffer::allocate(small, MemoryCategory::kRuntime, small.limit_bytes() - small.used_bytes() - (64 << 10));
  ASSERT_TRUE(ballast.ok());
  SampleSource source(wandering(3));
  auto features = *AudioFeatures::open(**model, small, source, *measure_loudness(source));
  std::vector<float> out(size_t(features->layers() * features->width()));
  Status status = features->columns(0, 1, out.data());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kOutOfMemory);
}

TEST_F(AudioFeaturesTest, NamesTheLeastLengthOfAudio) {
  SampleSource source(std::vector<float>(300, 0.1f));
  auto features = open_features(source, {});
  ASSERT_FALSE(features.ok());
  EXPECT_NE(features.status().message().find("18 ms"), std::string::npos) << features.status().message();
}

TEST_F(AudioFeaturesTest, AcceptsSilence) {
  SampleSource source(std::vector<float>(16000, 0.0f));
  auto features = *open_features(source, {});
  for (float v : all_columns(*features, 24)) EXPECT_TRUE(std::isfinite(v));
}

}  // namespace
}  // namespace liveavatar
