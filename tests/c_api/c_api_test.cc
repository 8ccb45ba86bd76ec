// The C API: names and texts, NULL and wrong values, a job with a stop, a video file. The C programs are built in
// tests/library.
#include <gtest/gtest.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "c_api/fields.h"
#include "liveavatar/c.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

const std::string kSource = LA_SOURCE_DIR;

// Takes the message over.
std::string taken(char* message) {
  std::string text = message == nullptr ? "" : message;
  la_free(message);
  return text;
}

class CApi : public testing::Test {
 protected:
  void SetUp() override {
    la_engine_options* options = la_engine_options_new();
    for (auto [name, value] :
         {std::pair<const char*, std::string>{"checkpoint_dir", kSource + "/models/mini"}, {"threads", "2"}})
      ASSERT_EQ(la_engine_options_set(options, name, value.c_str(), nullptr), LA_OK);
    char* message = nullptr;
    ASSERT_EQ(la_engine_load(options, &engine_, &message), LA_OK) << taken(message);
    la_engine_options_free(options);
    job_ = la_job_new();
    for (auto [name, value] : {std::pair<const char*, std::string>{"image", kSource + "/assets/demo/portrait.png"},
                               {"audio", kSource + "/assets/demo/voice.wav"},
                               {"prompt", "a test"},
                               {"size", "64*64"},
                               {"num_clip", "1"},
                               {"infer_frames", "12"}})
      ASSERT_EQ(la_job_set(job_, name, value.c_str(), nullptr), LA_OK);
  }
  void TearDown() override {
    la_job_free(job_);
    la_engine_free(engine_);
  }

  la_engine* engine_ = nullptr;
  la_job* job_ = nullptr;
};

struct Seen {
  la_engine* engine = nullptr;
  la_job* job = nullptr;
  la_video_file* file = nullptr;
  int64_t frames = 0, stop_after = 1000, steps = 0;
  la_code nested = LA_OK;
};

int take_block(const la_block* block, void* user) {
  Seen& seen = *static_cast<Seen*>(user);
  EXPECT_EQ(block->first_frame, seen.frames);
  seen.frames += block->frames;
  seen.nested = la_generate(seen.engine, seen.job, take_block, user, nullptr);
  if (seen.file != nullptr) {
    EXPECT_EQ(la_video_file_append(seen.file, block, nullptr), LA_OK);
  }
  return seen.frames >= seen.stop_after;
}

TEST_F(CApi, AJobBecomesAVideoFile) {
  la_job_info* info = nullptr;
  char* message = nullptr;
  ASSERT_EQ(la_describe(engine_, job_, &info, &message), LA_OK) << taken(message);
  EXPECT_EQ(message, nullptr);
  EXPECT_EQ(info->frames, 12);
  EXPECT_EQ(info->note_count, 0u);
  Seen seen{engine_, job_};
  const TempDir dir;
  std::string path = dir.file("c_api \xc3\xa9.mp4");
  ASSERT_EQ(la_video_file_create(path.c_str(), info, nullptr, &seen.file, &message), LA_OK) << taken(message);
  la_job_info_free(info);
  auto count = [](const la_progress* progress, void* user) {
    EXPECT_EQ(progress->frames, 12);
    ++*static_cast<int64_t*>(user);
  };
  ASSERT_EQ(la_job_set_progress(job_, count, &seen.steps, nullptr), LA_OK);
  EXPECT_EQ(la_generate(engine_, job_, take_block, &seen, &message), LA_OK) << taken(message);
  EXPECT_EQ(la_video_file_finish(seen.file, nullptr), LA_OK);
  la_video_file_free(seen.file);
  EXPECT_EQ(seen.frames, 12);
  EXPECT_GT(seen.steps, 0);
  EXPECT_EQ(seen.nested, LA_UNSUPPORTED);
  EXPECT_GT(std::filesystem::file_size(path), 1000u);
  EXPECT_GE(la_engine_memory_peak_bytes(engine_), la_engine_memory_used_bytes(engine_));
  EXPECT_GT(la_engine_memory_used_bytes(engine_), 0u);
}

TEST_F(CApi, AStopAndAThrowingCallbackReturnCancelled) {
  Seen seen{engine_, job_};
  seen.stop_after = 4;
  char* message = nullptr;
  EXPECT_EQ(la_generate(engine_, job_, take_block, &seen, &message), LA_CANCELLED);
  EXPECT_EQ(taken(message), "stopped on request");
  EXPECT_EQ(seen.frames, 4);
  la_block_callback thrower = [](const la_block*, void*) -> int { throw std::runtime_error("thrown"); };
  EXPECT_EQ(la_generate(engine_, job_, thrower, nullptr, &message), LA_CANCELLED);
  EXPECT_NE(taken(message).find("thrown"), std::string::npos);
}

TEST_F(CApi, ReportsInputNotesAsLines) {
  ASSERT_EQ(la_job_set(job_, "audio", (kSource + "/tests/cases/antiphase.wav").c_str(), nullptr), LA_OK);
  la_job_info* info = nullptr;
  ASSERT_EQ(la_describe(engine_, job_, &info, nullptr), LA_OK);
  ASSERT_EQ(info->note_count, 1u);
  EXPECT_NE(std::string(info->notes[0]).find("left"), std::string::npos);
  la_job_info_free(info);
}

TEST_F(CApi, NamesMissingFilesAndArguments) {
  char* message = nullptr;
  la_job_info* info = nullptr;
  la_engine* none = nullptr;
  la_video_file* file = nullptr;
  EXPECT_EQ(la_job_set(job_, "image", "/nowhere.png", nullptr), LA_OK);
  EXPECT_EQ(la_describe(engine_, job_, &info, &message), LA_NOT_FOUND);
  EXPECT_EQ(info, nullptr);
  EXPECT_NE(taken(message).find("/nowhere.png"), std::string::npos);
  EXPECT_EQ(la_engine_load(nullptr, &none, &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message), "la_engine_load: options is NULL");
  EXPECT_EQ(la_engine_load(nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_describe(nullptr, job_, &info, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_describe(engine_, nullptr, &info, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_generate(engine_, job_, nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_video_file_create(nullptr, nullptr, nullptr, &file, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_video_file_create("a.mp4", nullptr, nullptr, &file, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_video_file_append(nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_video_file_finish(nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_engine_memory_used_bytes(nullptr), 0u);
  la_engine_options* options = la_engine_options_new();
  la_engine_options_set(options, "checkpoint_dir", "/nowhere", nullptr);
  EXPECT_EQ(la_engine_load(options, &none, &message), LA_NOT_FOUND);
  EXPECT_FALSE(taken(message).empty());
  la_engine_options_free(options);
  la_engine_options_free(nullptr);
  la_engine_free(nullptr);
  la_job_free(nullptr);
  la_job_info_free(nullptr);
  la_video_file_free(nullptr);
  la_free(nullptr);
}

TEST(CApiFields, ParsesTextsIntoFields) {
  EngineOptions options;
  EXPECT_TRUE(set_field(options, "memory_budget_bytes", "18446744073709551615").ok());
  EXPECT_EQ(options.memory_budget_bytes, SIZE_MAX);
  EXPECT_TRUE(set_field(options, "page_weights", "false").ok());
  EXPECT_FALSE(options.page_weights);
  EXPECT_FALSE(set_field(options, "lora_strength", "0.5").ok());  // of none
  EXPECT_TRUE(set_field(options, "lora", "a.safetensors").ok());
  EXPECT_TRUE(set_field(options, "lora_strength", "0.5").ok());
  EXPECT_EQ(options.loras.at(0).path, "a.safetensors");
  EXPECT_EQ(options.loras.at(0).strength, 0.5);
  Job job;
  EXPECT_TRUE(set_field(job, "fit", "original").ok());
  EXPECT_EQ(job.fit, Fit::kOriginal);
  EXPECT_TRUE(set_field(job, "mask", "left.png").ok());
  EXPECT_TRUE(set_field(job, "mask", "right.png").ok());
  EXPECT_EQ(job.masks, (std::vector<std::string>{"left.png", "right.png"}));
  EXPECT_TRUE(set_field(job, "sample_shift", "2.5").ok());
  EXPECT_EQ(job.sample_shift, 2.5);
}

TEST(CApiFields, RefusesMalformedTextsAndChangesNothing) {
  Job job;
  const Job fresh;
  for (auto [name, value] : {std::pair<const char*, const char*>{"seed", "-1"},
                             {"seed", "1x"},
                             {"seed", ""},
                             {"sample_steps", "99999999999"},
                             {"sample_steps", "4.5"},
                             {"sample_shift", "2,5"},
                             {"online_decode", "yes"},
                             {"fit", "wide"},
                             {"sede", "4"}}) {
    Status status = set_field(job, name, value);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
  }
  EXPECT_EQ(job.seed, fresh.seed);
  EXPECT_EQ(job.sample_steps, fresh.sample_steps);
  EXPECT_NE(set_field(job, "sede", "4").message().find("seed"), std::string::npos);
}

TEST(CApiFields, ReportsTheLibraryVersion) {
  std::string numbers = std::to_string(LIVEAVATAR_VERSION_MAJOR) + "." + std::to_string(LIVEAVATAR_VERSION_MINOR) +
                        "." + std::to_string(LIVEAVATAR_VERSION_PATCH);
  EXPECT_EQ(la_version(), numbers);
  EXPECT_STREQ(version(), LIVEAVATAR_VERSION_STRING);
}

}  // namespace
}  // namespace liveavatar
