// Several speakers and pose videos: the same video on every schedule and number of threads, masks that lie as the
// portrait does, and what is said when something is missing.
#include "session/speakers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "media/image.h"
#include "session/actor_masks.h"
#include "support/mini.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
const std::string kGoldens = kSource + "/tests/goldens";
const std::string kLeft = kGoldens + "/generate_two/left.wav", kRight = kGoldens + "/generate_two/right.wav";

class SpeakersTest : public testing::Test {
 protected:
  // White in columns [first, last) of `width`, black elsewhere.
  std::string mask(const std::string& name, int64_t height, int64_t width, int64_t first, int64_t last) const {
    Image image{height, width, std::vector<uint8_t>(static_cast<size_t>(height * width * 3), 0)};
    for (int64_t i = 0; i < height * width; ++i) {
      if (i % width >= first && i % width < last) std::fill_n(&image.rgb[size_t(i * 3)], 3, uint8_t{255});
    }
    fs::create_directories(fs::path(path(name)).parent_path());
    EXPECT_TRUE(write_png(path(name), image).ok());
    return path(name);
  }
  std::string path(const std::string& name) const { return dir_.file(name); }

  // Two speakers whose masks change from block to block.
  GenerateRequest two_speakers() const {
    GenerateRequest job = mini_job(2);
    job.audio = kLeft + "+" + kRight;
    job.infer_frames = 24;
    for (int64_t i = 0; i < 30; ++i) {
      std::string number = std::to_string(100 + i) + ".png";
      mask("one/" + number, 64, 64, 0, i < 12 ? 16 : 32);
      mask("two/" + number, 64, 64, 48, 64);
    }
    job.masks = {path("one"), path("two")};
    return job;
  }

  TempDir dir_;
};

std::vector<uint8_t> video(const GenerateRequest& job, int threads, Status* status = nullptr) {
  auto engine = Engine::load(mini_options(threads));
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  std::vector<uint8_t> rgb;
  Status made = (*engine)->generate(job, [&](const VideoChunk& block) {
    rgb.insert(rgb.end(), block.rgb, block.rgb + block.frames * block.height * block.width * 3);
    return true;
  });
  if (status != nullptr) {
    *status = made;
  } else {
    EXPECT_TRUE(made.ok()) << made.message();
  }
  return rgb;
}

Status refusal(const GenerateRequest& job) {
  Status status;
  EXPECT_TRUE(video(job, 2, &status).empty());
  auto engine = Engine::load(mini_options());
  return status;
}

void expect_line(const Status& status, const std::string& part) {
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
}

TEST_F(SpeakersTest, EveryScheduleAndNumberOfThreadsGivesTheSameVideo) {
  GenerateRequest job = two_speakers();
  job.pose_video = kGoldens + "/pose/pose30.mp4";
  job.sample_solver = SampleSolver::kUniPc;
  job.schedule = Schedule::kSequential;
  std::vector<uint8_t> sequential = video(job, 1);
  EXPECT_EQ(sequential.size(), 48u * 64 * 64 * 3);
  job.schedule = Schedule::kWavefront;
  EXPECT_EQ(video(job, 3), sequential);
  job.online_decode = false;
  EXPECT_EQ(video(job, 2), sequential);
}

TEST_F(SpeakersTest, EachVoiceAndEachMaskChangesTheVideo) {
  GenerateRequest job = two_speakers();
  std::vector<uint8_t> both = video(job, 2);
  GenerateRequest swapped = job;
  std::swap(swapped.masks[0], swapped.masks[1]);
  EXPECT_NE(video(swapped, 2), both);
  GenerateRequest still = job;  // the first image for ever: the first block is the same, the second is not
  still.masks[0] = path("one/100.png");
  std::vector<uint8_t> other = video(still, 2);
  size_t block = 12 * 64 * 64 * 3;
  EXPECT_TRUE(std::equal(both.begin(), both.begin() + int64_t(block), other.begin()));
  EXPECT_NE(both, other);
}

TEST_F(SpeakersTest, TheLongestVoiceEndsTheVideoAndTheShortestTheOriginals) {
  auto engine = Engine::load(mini_options());
  ASSERT_TRUE(engine.ok());
  GenerateRequest job = two_speakers();
  job.num_clip = 0;
  auto frames = [&](const std::string& audio) {
    GenerateRequest one = job;
    one.audio = audio;
    if (audio.find('+') == std::string::npos) one.masks.clear();
    return (*engine)->describe(one)->frames;
  };
  int64_t left = frames(kLeft), right = frames(kRight);
  ASSERT_LT(left, right);
  EXPECT_EQ(frames(kLeft + "+" + kRight), right);
  job.original_speakers = true;
  EXPECT_EQ(frames(kLeft + "+" + kRight), left);
}

TEST_F(SpeakersTest, NamesAMissingVoiceOrMask) {
  GenerateRequest job = two_speakers();
  job.masks.clear();
  expect_line(refusal(job), "`masks` is missing");
  job.masks = {path("two")};
  expect_line(refusal(job), "`masks` gives 1 and `audio` 2");
  job.masks = {path("one"), path("two"), path("two")};
  expect_line(refusal(job), "`masks` gives 3 and `audio` 2");
  job.masks = {path("one"), mask("black.png", 64, 64, 0, 0)};
  expect_line(refusal(job), "speaker 2 is nowhere in the video");
  job.masks = {path("one"), path("nowhere.png")};
  EXPECT_EQ(refusal(job).code(), ErrorCode::kNotFound);
  job.audio = kLeft;
  job.masks = {path("one"), path("two")};
  expect_line(refusal(job), "`audio` names one voice; leave `masks` out");
  job.masks = {path("one")};
  expect_line(refusal(job), "leave `masks` out");
  job.masks.clear();
  for (const std::string& audio : {kLeft + "+", "+" + kLeft, kLeft + "++" + kRight}) {
    job.audio = audio;
    expect_line(refusal(job), "`audio` " + audio + ": a voice beside a '+' has no name");
  }
}

TEST_F(SpeakersTest, OneFolderMayHoldAllMasks) {
  for (const char* folder : {"all/1", "all/2", "all/3"})
    mask(std::string(folder) + "/annotated_frame_00000.png", 8, 8, 0, 4);
  auto found = find_masks({path("all")}, 3);
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_EQ(found->at(2), MaskImages{path("all/3/annotated_frame_00000.png")});
  EXPECT_FALSE(find_masks({path("all")}, 2).ok());
  fs::create_directories(path("result"));
  fs::rename(path("all"), path("result/tracking_mask_results"));
  EXPECT_TRUE(find_masks({path("result")}, 3).ok());
}

TEST_F(SpeakersTest, APlusIsPartOfANameWhereSuchAFileExists) {
  std::string plus = path("a+b.wav");
  fs::copy_file(kLeft, plus);
  EXPECT_EQ(split_voices(plus), std::vector<std::string>{plus});
  EXPECT_EQ(split_voices(kLeft + "+" + plus), (std::vector<std::string>{kLeft, plus}));
  EXPECT_EQ(split_voices("x.wav+y.wav"), (std::vector<std::string>{"x.wav", "y.wav"}));
  EXPECT_EQ(split_voices(""), std::vector<std::string>{""});
}

// A portrait twice as wide as the video: its outer quarters are cropped away, and so are the masks'. A mask of another
// size describes the same portrait.
TEST_F(SpeakersTest, MasksAreCroppedAsThePortraitIs) {
  MaskFit fit{128, 256, {128, 128}, Fit::kCover};
  TokenGrid grid{3, 8, 8};
  auto columns = [&](const std::string& file, const MaskFit& how) {
    auto tokens = fitted_tokens({file}, how, 0, grid);
    EXPECT_TRUE(tokens.ok());
    std::vector<int> set;
    for (int c = 0; c < 8; ++c) set.push_back((*tokens)[size_t(2 * 64 + 3 * 8 + c)]);
    return set;
  };
  std::string whole = mask("whole.png", 128, 256, 64, 128), half = mask("half.png", 64, 128, 32, 64);
  EXPECT_EQ(columns(whole, fit), (std::vector<int>{1, 1, 1, 1, 0, 0, 0, 0}));
  EXPECT_EQ(columns(half, fit), columns(whole, fit));
  auto stretched = stretched_tokens({whole}, grid);
  EXPECT_EQ(std::vector<int>(stretched->begin(), stretched->begin() + 8), (std::vector<int>{0, 0, 1, 1, 0, 0, 0, 0}));
  // With the original's bars nobody is in them.
  fit = {64, 256, {128, 128}, Fit::kOriginal};
  EXPECT_EQ(columns(mask("low.png", 64, 256, 64, 128), fit), (std::vector<int>{1, 1, 1, 1, 0, 0, 0, 0}));
}

// A portrait of 64 x 128 that is stored lying down and turned upright (EXIF 6), and a mask of what is stored.
TEST_F(SpeakersTest, MasksAcrossThePortraitAreTurned) {
  MaskFit fit{128, 64, {128, 64}, Fit::kCover, 6};
  TokenGrid grid{1, 8, 4};
  auto across = fitted_tokens({mask("across.png", 64, 128, 0, 64)}, fit, 0, grid);  // left half becomes the upper one
  ASSERT_TRUE(across.ok());
  EXPECT_EQ(std::count(across->begin(), across->begin() + 16, 1), 16);
  EXPECT_EQ(std::count(across->begin(), across->end(), 1), 16);
  auto upright = fitted_tokens({mask("upright.png", 128, 64, 0, 32)}, fit, 0, grid);
  EXPECT_EQ((*upright)[0] + (*upright)[1] + (*upright)[2] + (*upright)[3], 2);
}

// An image a frame, the last one held.
TEST_F(SpeakersTest, MasksMoveWithTheVideo) {
  MaskImages pictures;
  for (int i = 0; i < 8; ++i)
    pictures.push_back(mask(std::to_string(i) + ".png", 64, 64, i < 4 ? 0 : 32, i < 4 ? 32 : 64));
  MaskFit fit{64, 64, {64, 64}, Fit::kCover};
  for (int64_t first : {0, 3}) {
    auto tokens = fitted_tokens(pictures, fit, first, {3, 4, 4});
    ASSERT_TRUE(tokens.ok());
    for (int64_t l = 0; l < 3; ++l) EXPECT_EQ((*tokens)[size_t(l * 16)], first + l == 0) << first << " " << l;
  }
}

// What was charged for one image of the first one's size is kept.
TEST_F(SpeakersTest, AMaskLargerThanTheFirstIsRefused) {
  MaskFit fit{64, 64, {64, 64}, Fit::kCover};
  MaskImages pictures{mask("first.png", 64, 64, 0, 32), mask("larger.png", 128, 64, 0, 32)};
  EXPECT_EQ(largest_pixels(*first_mask_sizes({pictures})), 64 * 64);
  auto tokens = fitted_tokens(pictures, fit, 0, {1, 4, 4}, 64 * 64);
  ASSERT_FALSE(tokens.ok());
  EXPECT_NE(tokens.status().message().find("larger.png"), std::string::npos) << tokens.status().message();
}

}  // namespace
}  // namespace liveavatar
