// What the model hears of a live session.
#include "session/live_columns.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/wav2vec2/timeline.h"
#include "support/resolved.h"
#include "voice.h"

namespace liveavatar {
namespace {

class LiveColumnsTest : public ::testing::Test {
 protected:
  using Blocks = std::vector<std::vector<float>>;

  Blocks hear(LiveColumns& columns, int64_t blocks) {
    Blocks out;
    for (int64_t b = 0; b < blocks; ++b) {
      out.emplace_back(values());
      EXPECT_TRUE(*columns.columns(b * kBlockFrames, kBlockFrames, out.back().data()));
    }
    return out;
  }
  // A voice that was pushed as a whole before the first block.
  Blocks hear(const LiveShape& shape, const Samples& voice, size_t piece, int64_t blocks) {
    LiveSound sound(shape);
    push_in_pieces(voice, piece, [&](auto some) { ASSERT_TRUE(sound.push(some).ok()); });
    sound.end_speech();
    auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
    return hear(*columns, blocks);
  }
  size_t values() const { return size_t(layers() * width() * kBlockFrames); }
  int64_t layers() const { return models_->audio->config().layers + 1; }
  int64_t width() const { return models_->audio->config().width; }

  static LiveShape shape_at(int rate_hz, int64_t context_ms = 2000) {
    LiveShape shape;
    shape.rate_hz = rate_hz;
    shape.context_ms = context_ms;
    return shape;
  }
  static double error(const Blocks& got, const Blocks& want) {
    double error = 0, size = 0;
    for (size_t b = 0; b < got.size(); ++b)
      for (size_t i = 0; i < got[b].size(); ++i) {
        error += std::pow(double(got[b][i]) - want[b][i], 2);
        size += std::pow(double(want[b][i]), 2);
      }
    return std::sqrt(error / size);
  }

  std::unique_ptr<Models> models_ = *load_models(mini_options());
};

TEST_F(LiveColumnsTest, DoNotDependOnHowTheSoundWasCut) {
  for (int rate : {8000, 16000, 44100}) {
    const Samples voice = demo_voice(rate);
    const Blocks want = hear(shape_at(rate), voice, 0, 5);
    for (size_t piece : {size_t{1}, size_t{441}, size_t(rate)}) EXPECT_EQ(hear(shape_at(rate), voice, piece, 5), want);
  }
}

// Nor on when, as long as a block's sound is there when the block begins.
TEST_F(LiveColumnsTest, DoNotDependOnHowLongBeforeTheSoundCame) {
  const LiveShape shape = shape_at(16000);
  const Samples voice = demo_voice();
  const Blocks want = hear(shape, voice, 0, 5);
  LiveSound sound(shape);
  auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
  ASSERT_TRUE(sound.push(part(voice, 0, 8960)).ok());
  for (size_t b = 0; b < 5; ++b) {
    std::vector<float> out(values());
    ASSERT_TRUE(*columns->columns(int64_t(b) * kBlockFrames, kBlockFrames, out.data()));
    EXPECT_EQ(out, want[b]) << b;
    ASSERT_TRUE(sound.push(part(voice, 8960 + b * 7680, 7680)).ok());
  }
}

// The encoder's own states of the samples that the window has, with the loudness so far.
TEST_F(LiveColumnsTest, AreTheEncodersStatesOfTheWindow) {
  const LiveShape shape = shape_at(16000, 1000);
  const Samples voice = demo_voice();
  LiveSound sound(shape);
  ASSERT_TRUE(sound.push(voice).ok());
  auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
  for (int64_t block = 0; block < 4; ++block) {
    std::vector<float> out(values());
    ASSERT_TRUE(*columns->columns(block * kBlockFrames, kBlockFrames, out.data()));
    const int64_t first = std::max<int64_t>(0, block * 24 - 50), end = (block + 1) * 7680 + 1280;
    std::vector<float> window;
    for (int64_t i = first * kHopSamples; i < end; ++i)
      window.push_back(columns->loudness().normalise(float(voice[size_t(i)]) / 32768));
    const OwnedTensor states = *models_->audio->hidden_states(window, *models_->budget);
    const int64_t frames = states.tensor.dim(1);
    for (int64_t column : {0, 5, 11}) {
      const double at = double(std::llrint(1.2 * double(block * 12 + column))) * 5 / 3 - double(first);
      const auto low = static_cast<int64_t>(at + 1e-9);
      const double share = at - double(low);
      for (int64_t l = 0; l < layers(); ++l)
        for (int64_t c : {int64_t{0}, width() - 1}) {
          const float* layer = states.tensor.host<float>() + l * frames * width();
          EXPECT_NEAR(out[size_t((l * width() + c) * kBlockFrames + column)],
                      layer[low * width() + c] * (1 - share) + layer[(low + 1) * width() + c] * share, 1e-4);
        }
    }
  }
}

// The bound is what docs/live.md has for the whole voice, 0.49, of which these are the first seconds.
TEST_F(LiveColumnsTest, AreNearThoseOfTheWholeVoice) {
  Voice voice = *Voice::open(kSource + "/assets/demo/voice.wav");
  ASSERT_TRUE(voice.hear().ok());
  std::vector<Voice> voices;
  voices.push_back(std::move(voice));
  auto whole = *FileColumns::open(*models_->audio, *models_->budget, voices);
  Blocks want;
  for (int64_t b = 0; b < 5; ++b) {
    want.emplace_back(values());
    ASSERT_TRUE(*whole->columns(b * kBlockFrames, kBlockFrames, want.back().data()));
  }
  const double near = error(hear(shape_at(16000), demo_voice(), 0, 5), want);
  EXPECT_LT(near, 0.49);
  EXPECT_GT(near, 0);
  EXPECT_GT(error(hear(shape_at(16000), Samples(48000, 0), 0, 5), want), 2 * near);  // of silence
}

// A quiet voice is heard as a loud one, once it has spoken for some seconds.
TEST_F(LiveColumnsTest, LoudnessIsDividedOut) {
  const Samples voice = demo_voice(16000, 8);
  Samples quiet = voice;
  for (int16_t& sample : quiet) sample = static_cast<int16_t>(sample / 8);
  Blocks loud_blocks = hear(shape_at(16000), voice, 0, 16), quiet_blocks = hear(shape_at(16000), quiet, 0, 16);
  const double early = error({quiet_blocks[0]}, {loud_blocks[0]});
  const double late = error({quiet_blocks[15]}, {loud_blocks[15]});
  EXPECT_LT(late, 0.15);
  EXPECT_LT(late, early);
}

TEST_F(LiveColumnsTest, SilenceBetweenSpeechesDoesNotChangeTheLoudness) {
  const LiveShape shape = shape_at(16000);
  LiveSound sound(shape);
  auto columns = *LiveColumns::open(*models_->audio, *models_->budget, shape, sound);
  ASSERT_TRUE(sound.push(demo_voice()).ok());
  sound.end_speech();
  hear(*columns, 8);
  const double loudness = columns->loudness().variance;
  std::vector<float> out(values());
  for (int64_t b = 8; b < 24; ++b) ASSERT_TRUE(*columns->columns(b * kBlockFrames, kBlockFrames, out.data()));
  EXPECT_EQ(columns->loudness().variance, loudness);
}

TEST_F(LiveColumnsTest, MemoryIsThatOfTheOpening) {
  const LiveShape shape = shape_at(48000);
  auto budget = *Budget::open_within(*models_->budget, Budget::kUnlimited);
  Budget dry{Budget::DryRun()};
  const LiveMemory planned = *LiveMemory::allocate(shape, *models_->audio, dry);
  LiveSound sound(shape);
  auto columns = *LiveColumns::open(*models_->audio, *budget, shape, sound);
  EXPECT_EQ(budget->used_bytes(), dry.used_bytes());
  hear(*columns, 4);
  EXPECT_EQ(budget->used_bytes(), dry.used_bytes());
  EXPECT_EQ(budget->peak_bytes(), dry.used_bytes());
}

}  // namespace
}  // namespace liveavatar
