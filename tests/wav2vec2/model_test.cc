// The encoder itself: chunks of the feature extractor, threads, broken folders, the arithmetic of the timeline.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "models/wav2vec2/timeline.h"
#include "models/wav2vec2/wav2vec2.h"
#include "ops/make_backend.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

const std::string kGolden = std::string(LA_SOURCE_DIR) + "/tests/goldens/wav2vec2";

std::vector<float> noise(int64_t samples) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> out(static_cast<size_t>(samples));
  for (float& v : out) v = normal(random);
  return out;
}

std::unique_ptr<Wav2Vec2> load(Backend& backend, Budget& budget, DType dtype = DType::kF32) {
  auto model = Wav2Vec2::load(kGolden, backend, budget, dtype);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? *std::move(model) : nullptr;
}

// Hidden state 0 hears 64 frames to each side at most, so away from the ends a cut-out of the audio gives the same
// bits, whichever chunk of the extractor a frame fell into.
TEST(Wav2Vec2, ChunksOfTheExtractorJoinWithoutASeam) {
  Budget budget;
  for (const char* device : {"reference", "cpu"}) {
    auto backend = *make_backend(device, {.threads = 2});
    auto model = load(*backend, budget);
    ASSERT_TRUE(model);
    int64_t frames = 430, first = 110, count = 190, width = model->config().width;
    std::vector<float> sound = noise((frames - 1) * kHopSamples + kReachSamples);
    OwnedTensor whole = *model->hidden_states(sound, budget);
    OwnedTensor part = *model->hidden_states(
        std::span(sound).subspan(size_t(first * kHopSamples), size_t((count - 1) * kHopSamples + kReachSamples)),
        budget);
    for (int64_t f = 64; f < count - 64; ++f) {
      EXPECT_EQ(std::memcmp(whole.tensor.host<float>() + (first + f) * width, part.tensor.host<float>() + f * width,
                            size_t(width) * 4),
                0)
          << device << " " << first + f;
    }
  }
}

TEST(Wav2Vec2, SameBitsOnAnyNumberOfThreads) {
  Budget budget;
  auto one = *make_backend("cpu", {.threads = 1}), three = *make_backend("cpu", {.threads = 3});
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    auto a = load(*one, budget, dtype), b = load(*three, budget, dtype);
    ASSERT_TRUE(a && b);
    std::vector<float> sound = noise(16000);
    OwnedTensor x = *a->hidden_states(sound, budget), y = *b->hidden_states(sound, budget);
    EXPECT_EQ(std::memcmp(x.tensor.address(), y.tensor.address(), x.tensor.bytes()), 0);
  }
}

TEST(Wav2Vec2, ReleasesItsMemory) {
  Budget budget;
  auto backend = *make_backend("cpu", {.threads = 2});
  {
    auto model = load(*backend, budget);
    ASSERT_TRUE(model);
    EXPECT_GT(budget.used_bytes(MemoryCategory::kAudio), 0u);
    size_t loaded = budget.used_bytes();
    { OwnedTensor states = *model->hidden_states(noise(8000), budget); }
    EXPECT_EQ(budget.used_bytes(), loaded);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

TEST(Wav2Vec2, RefusesAudioShorterThanOneFrame) {
  Budget budget;
  auto backend = *make_backend("cpu", {.threads = 1});
  auto model = load(*backend, budget);
  ASSERT_TRUE(model);
  EXPECT_FALSE(model->hidden_states(noise(399), budget).ok());
  EXPECT_TRUE(model->hidden_states(noise(400), budget).ok());
}

// A folder with the golden's config after one edit; no weights.
class Wav2Vec2Folder : public ::testing::Test {
 protected:
  void config(const std::string& from, const std::string& to) {
    std::ifstream in(kGolden + "/config.json");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    std::ofstream(dir_ / "config.json") << text.replace(at, from.size(), to);
  }
  std::string error() {
    auto backend = *make_backend("reference", {.threads = 1});
    Budget budget;
    auto model = Wav2Vec2::load(dir_.string(), *backend, budget, DType::kF32);
    return model.ok() ? "" : model.status().message();
  }
  TempDir dir_;
};

TEST_F(Wav2Vec2Folder, ErrorsNameTheFile) {
  EXPECT_NE(error().find("config.json"), std::string::npos) << error();
  std::ofstream(dir_ / "config.json") << "not json";
  EXPECT_NE(error().find("not JSON at line 1, byte 1"), std::string::npos) << error();
  config("\"hidden_size\"", "\"hidden_sizes\"");
  EXPECT_NE(error().find("hidden_size is missing"), std::string::npos) << error();
  for (const char* wrong :
       {"\"feat_extract_norm\": 5,", "\"do_stable_layer_norm\": 1,", "\"layer_norm_eps\": \"x\",",
        "\"layer_norm_eps\": 0,", "\"conv_kernel\": 10,", "\"conv_dim\": [32, \"x\"],",
        "\"num_conv_pos_embeddings\": 1e30,", "\"num_conv_pos_embeddings\": 18446744073709551615,"}) {
    const std::string entry = wrong, key = entry.substr(0, entry.find(':'));
    std::ofstream(dir_ / "config.json") << "{" << entry << R"("hidden_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 1, "intermediate_size": 8})";
    EXPECT_NE(error().find(key.substr(1, key.size() - 2)), std::string::npos) << wrong << error();
    EXPECT_NE(error().find("must be"), std::string::npos) << wrong << error();
  }
  config("\"do_stable_layer_norm\": true", "\"do_stable_layer_norm\": false");
  EXPECT_NE(error().find("not the large kind"), std::string::npos) << error();
  config("{", "{");
  EXPECT_NE(error().find("model.safetensors"), std::string::npos) << error();
}

TEST_F(Wav2Vec2Folder, NamesTheTensorOfAnotherWidth) {
  config("\"intermediate_size\": ", "\"intermediate_size\": 1");
  std::filesystem::copy(kGolden + "/model.safetensors", dir_ / "model.safetensors");
  EXPECT_NE(error().find("feed_forward.intermediate_dense"), std::string::npos) << error();
}

TEST(Timeline, FrameCountsFollowTheSevenConvolutions) {
  for (int64_t samples = 0; samples < 5000; ++samples) {
    int64_t n = samples;
    for (auto [kernel, stride] : {std::pair{10, 5}, {3, 2}, {3, 2}, {3, 2}, {3, 2}, {2, 2}, {2, 2}})
      n = n < kernel ? 0 : (n - kernel) / stride + 1;
    ASSERT_EQ(frame_count(samples), n) << samples;
  }
}

TEST(Timeline, ColumnsAndClips) {
  EXPECT_EQ(interpolated_length(49), 29);
  EXPECT_EQ(clip_count(288, 48, 25), 6);  // full clips get one more
  EXPECT_EQ(column_source(1, 100, 25), 1);
  EXPECT_EQ(column_source(3, 100, 25), 4);
  EXPECT_EQ(column_source(84, 100, 25), -1);
  EXPECT_EQ(column_source(3, 100, 20), 4);  // 4.5: to even
  EXPECT_EQ(between(0, 11, 19).low, 0);
  EXPECT_EQ(between(10, 11, 19).low, 18);
  EXPECT_EQ(between(5, 11, 19).low, 9);
  EXPECT_EQ(between(0, 1, 2).low, 0);
}

}  // namespace
}  // namespace liveavatar
