// The C API: names and texts, NULL and wrong values, a job with a stop, a video file. The C programs are built in
// tests/library.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
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
    request_ = la_request_new();
    for (auto [name, value] : {std::pair<const char*, std::string>{"image", kSource + "/assets/demo/portrait.png"},
                               {"audio", kSource + "/assets/demo/voice.wav"},
                               {"prompt", "a test"},
                               {"size", "64*64"},
                               {"num_clip", "1"},
                               {"infer_frames", "12"}})
      ASSERT_EQ(la_request_set(request_, name, value.c_str(), nullptr), LA_OK);
  }
  void TearDown() override {
    la_request_free(request_);
    la_engine_free(engine_);
  }

  la_engine* engine_ = nullptr;
  la_request* request_ = nullptr;
};

struct Seen {
  la_engine* engine = nullptr;
  la_request* request = nullptr;
  la_video_file* file = nullptr;
  int64_t frames = 0, stop_after = 1000, steps = 0;
  la_code nested = LA_OK;
};

int take_chunk(const la_chunk* chunk, void* user) {
  Seen& seen = *static_cast<Seen*>(user);
  EXPECT_EQ(chunk->first_frame, seen.frames);
  seen.frames += chunk->frames;
  seen.nested = la_generate(seen.engine, seen.request, take_chunk, user, nullptr);
  if (seen.file != nullptr) {
    EXPECT_EQ(la_video_file_append(seen.file, chunk, nullptr), LA_OK);
  }
  return seen.frames >= seen.stop_after;
}

TEST_F(CApi, AJobBecomesAVideoFile) {
  la_job_info* info = nullptr;
  char* message = nullptr;
  ASSERT_EQ(la_describe(engine_, request_, &info, &message), LA_OK) << taken(message);
  EXPECT_EQ(message, nullptr);
  EXPECT_EQ(info->frames, 12);
  EXPECT_EQ(info->note_count, 0u);
  EXPECT_STREQ(info->video_encoder, "cpu");
  Seen seen{engine_, request_};
  const TempDir dir;
  std::string path = dir.file("c_api \xc3\xa9.mp4");
  ASSERT_EQ(la_video_file_create(path.c_str(), info, nullptr, &seen.file, &message), LA_OK) << taken(message);
  EXPECT_STREQ(la_video_file_encoder(seen.file), "libx264");
  la_job_info_free(info);
  auto count = [](const la_progress* progress, void* user) {
    EXPECT_EQ(progress->frames, 12);
    ++*static_cast<int64_t*>(user);
  };
  ASSERT_EQ(la_request_set_progress(request_, count, &seen.steps, nullptr), LA_OK);
  EXPECT_EQ(la_generate(engine_, request_, take_chunk, &seen, &message), LA_OK) << taken(message);
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
  Seen seen{engine_, request_};
  seen.stop_after = 4;
  char* message = nullptr;
  EXPECT_EQ(la_generate(engine_, request_, take_chunk, &seen, &message), LA_CANCELLED);
  EXPECT_EQ(taken(message), "stopped on request");
  EXPECT_EQ(seen.frames, 4);
  la_chunk_callback thrower = [](const la_chunk*, void*) -> int { throw std::runtime_error("thrown"); };
  EXPECT_EQ(la_generate(engine_, request_, thrower, nullptr, &message), LA_CANCELLED);
  EXPECT_NE(taken(message).find("thrown"), std::string::npos);
}

// The thread that stops the run of a job, as soon as that has begun.
struct Stopper {
  la_engine* engine = nullptr;
  std::atomic<bool> begun = false, asked = false;
  std::string last_stage;
};

TEST_F(CApi, AnotherThreadStopsTheFirstStages) {
  Stopper stopper{engine_, {}, {}, {}};
  auto wait_for_stop = [](const la_progress* progress, void* user) {
    auto& s = *static_cast<Stopper*>(user);
    s.last_stage = progress->stage;
    s.begun = true;
    s.begun.notify_one();
    s.asked.wait(false);
  };
  ASSERT_EQ(la_request_set_progress(request_, wait_for_stop, &stopper, nullptr), LA_OK);
  std::thread thread([&stopper] {
    stopper.begun.wait(false);
    la_engine_stop(stopper.engine);
    stopper.asked = true;
    stopper.asked.notify_one();
  });
  Seen seen{engine_, request_};
  char* message = nullptr;
  EXPECT_EQ(la_generate(engine_, request_, take_chunk, &seen, &message), LA_CANCELLED);
  thread.join();
  EXPECT_EQ(taken(message), "stopped on request");
  EXPECT_EQ(stopper.last_stage, "text");
  EXPECT_EQ(seen.frames, 0);
  // It is over with that run: the next one runs to its end.
  ASSERT_EQ(la_request_set_progress(request_, nullptr, nullptr, nullptr), LA_OK);
  EXPECT_EQ(la_generate(engine_, request_, take_chunk, &seen, nullptr), LA_OK);
  EXPECT_EQ(seen.frames, 12);
}

TEST_F(CApi, ACallbackStopsItsRunAndAStopWithoutARunDoesNothing) {
  la_engine_stop(nullptr);
  la_engine_stop(engine_);
  struct Run {
    la_engine* engine;
    int64_t frames;
  } run{engine_, 0};
  auto stop = [](const la_chunk* chunk, void* user) {
    auto& r = *static_cast<Run*>(user);
    r.frames += chunk->frames;
    la_engine_stop(r.engine);
    return 0;
  };
  EXPECT_EQ(la_generate(engine_, request_, stop, &run, nullptr), LA_CANCELLED);
  EXPECT_EQ(run.frames, 4);
}

TEST_F(CApi, ReportsInputNotesAsLines) {
  ASSERT_EQ(la_request_set(request_, "audio", (kSource + "/tests/cases/antiphase.wav").c_str(), nullptr), LA_OK);
  la_job_info* info = nullptr;
  ASSERT_EQ(la_describe(engine_, request_, &info, nullptr), LA_OK);
  ASSERT_EQ(info->note_count, 1u);
  EXPECT_NE(std::string(info->notes[0]).find("left"), std::string::npos);
  la_job_info_free(info);
}

TEST_F(CApi, NamesMissingFilesAndArguments) {
  char* message = nullptr;
  la_job_info* info = nullptr;
  la_engine* none = nullptr;
  la_video_file* file = nullptr;
  EXPECT_EQ(la_request_set(request_, "image", "/nowhere.png", nullptr), LA_OK);
  EXPECT_EQ(la_describe(engine_, request_, &info, &message), LA_NOT_FOUND);
  EXPECT_EQ(info, nullptr);
  EXPECT_NE(taken(message).find("/nowhere.png"), std::string::npos);
  EXPECT_EQ(la_engine_load(nullptr, &none, &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message), "la_engine_load: options is NULL");
  EXPECT_EQ(la_engine_load(nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_describe(nullptr, request_, &info, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_describe(engine_, nullptr, &info, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_generate(engine_, request_, nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
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
  la_request_free(nullptr);
  la_job_info_free(nullptr);
  EXPECT_EQ(la_video_file_encoder(nullptr), nullptr);
  la_video_file_free(nullptr);
  la_free(nullptr);
}

// What the program's parser refuses, by the name of the field.
TEST(EngineOptionsCheck, RefusesValuesOutOfRange) {
  auto refused = [](const std::string& field, const std::function<void(EngineOptions&)>& change) {
    EngineOptions options;
    options.checkpoint_dir = kSource + "/models/mini";
    change(options);
    auto engine = Engine::load(options);
    ASSERT_FALSE(engine.ok()) << field;
    EXPECT_EQ(engine.status().code(), ErrorCode::kInvalidArgument) << engine.status().message();
    EXPECT_NE(engine.status().message().find("`" + field + "`"), std::string::npos) << engine.status().message();
    EXPECT_EQ(engine.status().message().find_first_of(std::string("\n\0", 2)), std::string::npos);
  };
  refused("threads", [](auto& o) { o.threads = -1; });
  refused("lora_alpha", [](auto& o) { o.lora_alpha = std::nan(""); });
  refused("lora_alpha", [](auto& o) { o.lora_alpha = HUGE_VAL; });
  refused("loras", [](auto& o) { o.loras = {{"x\n", std::nan("")}}; });
  refused("dtype", [](auto& o) { o.dtype = static_cast<ComputeType>(7); });
  refused("checkpoint_dir", [](auto& o) { o.checkpoint_dir += std::string("\0x", 2); });
  refused("paging_dir", [](auto& o) { o.paging_dir = std::string("/tmp\0", 5); });
  EngineOptions lost;
  lost.checkpoint_dir = kSource + "/models/mini";
  lost.paging_dir = "/nowhere";
  lost.offload_kv_cache = true;
  Status status = Engine::load(lost).status();
  EXPECT_EQ(status.message(), "`paging_dir` /nowhere: no such folder; make it, or choose another");
}

TEST(RequestCheck, RefusesValuesOutOfRange) {
  EngineOptions options;
  options.checkpoint_dir = kSource + "/models/mini";
  options.threads = 1;
  auto engine = Engine::load(options);
  ASSERT_TRUE(engine.ok());
  auto refused = [&](const std::string& field, const std::function<void(GenerateRequest&)>& change) {
    GenerateRequest request;
    request.image = kSource + "/assets/demo/portrait.png";
    request.audio = kSource + "/assets/demo/voice.wav";
    change(request);
    Status status = (*engine)->describe(request).status();
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << field;
    EXPECT_NE(status.message().find(field), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  };
  refused("`sample_solver` 9", [](auto& r) { r.sample_solver = static_cast<SampleSolver>(9); });
  refused("`schedule` -1", [](auto& r) { r.schedule = static_cast<Schedule>(-1); });
  refused("`check_finite` 3", [](auto& r) { r.check_finite = static_cast<CheckFinite>(3); });
  refused("`on_nan` 2", [](auto& r) { r.on_nan = static_cast<OnNan>(2); });
  refused("`image`", [](auto& r) { r.image += std::string("\0", 1); });
  refused("`masks`", [](auto& r) { r.masks = {std::string("a\0b", 3)}; });
  refused("`size`", [](auto& r) { r.size = "64*64\n"; });
  EXPECT_FALSE(VideoFile::create(std::string("/tmp/a\0.mp4", 11), {}, "").ok());
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
  GenerateRequest request;
  EXPECT_TRUE(set_field(request, "fit", "original").ok());
  EXPECT_EQ(request.fit, Fit::kOriginal);
  EXPECT_TRUE(set_field(request, "mask", "left.png").ok());
  EXPECT_TRUE(set_field(request, "mask", "right.png").ok());
  EXPECT_EQ(request.masks, (std::vector<std::string>{"left.png", "right.png"}));
  EXPECT_TRUE(set_field(request, "sample_shift", "2.5").ok());
  EXPECT_EQ(request.sample_shift, 2.5);
}

TEST(CApiFields, EnumsAreSetByTheirTexts) {
  EngineOptions options;
  EXPECT_TRUE(set_field(options, "dtype", "f32").ok());
  EXPECT_TRUE(set_field(options, "weights_dtype", "int8").ok());
  EXPECT_TRUE(set_field(options, "kv_dtype", "fp8").ok());
  EXPECT_EQ(options.dtype, ComputeType::kF32);
  EXPECT_EQ(options.weights_dtype, WeightsType::kInt8);
  EXPECT_EQ(options.kv_dtype, KvType::kFp8);
  EXPECT_TRUE(set_field(options, "weights_dtype", "").ok());
  EXPECT_EQ(options.weights_dtype, WeightsType::kSameAsDtype);
  EXPECT_EQ(set_field(options, "kv_dtype", "q4").message(), "`kv_dtype` q4: choose bf16, int8 or fp8");
  EXPECT_TRUE(set_field(options, "tune", "off").ok());
  EXPECT_EQ(options.tune, Tune::kOff);
  EXPECT_EQ(set_field(options, "tune", "on").message(), "`tune` on: choose auto or off");
  GenerateRequest request;
  EXPECT_TRUE(set_field(request, "schedule", "wavefront").ok());
  EXPECT_TRUE(set_field(request, "sample_solver", "dpm++").ok());
  EXPECT_EQ(request.schedule, Schedule::kWavefront);
  EXPECT_TRUE(set_field(request, "check_finite", "layer").ok());
  EXPECT_TRUE(set_field(request, "on_nan", "retry").ok());
  EXPECT_EQ(request.check_finite, CheckFinite::kLayer);
  EXPECT_EQ(request.on_nan, OnNan::kRetry);
  EXPECT_EQ(set_field(request, "check_finite", "op").message(), "`check_finite` op: choose block, step or layer");
  EXPECT_EQ(request.sample_solver, SampleSolver::kDpmPlusPlus);
}

TEST(CApiFields, RefusesMalformedTextsAndChangesNothing) {
  GenerateRequest request;
  const GenerateRequest fresh;
  for (auto [name, value] : {std::pair<const char*, const char*>{"seed", "-1"},
                             {"seed", "1x"},
                             {"seed", ""},
                             {"sample_steps", "99999999999"},
                             {"sample_steps", "4.5"},
                             {"sample_shift", "2,5"},
                             {"online_decode", "yes"},
                             {"fit", "wide"},
                             {"schedule", "fast"},
                             {"sede", "4"}}) {
    Status status = set_field(request, name, value);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << name;
    EXPECT_NE(status.message().find(name), std::string::npos) << status.message();
  }
  EXPECT_EQ(request.seed, fresh.seed);
  EXPECT_EQ(request.sample_steps, fresh.sample_steps);
  EXPECT_NE(set_field(request, "sede", "4").message().find("seed"), std::string::npos);
}

TEST(CApiFields, ReportsTheLibraryVersion) {
  std::string numbers = std::to_string(LIVEAVATAR_VERSION_MAJOR) + "." + std::to_string(LIVEAVATAR_VERSION_MINOR) +
                        "." + std::to_string(LIVEAVATAR_VERSION_PATCH);
  EXPECT_EQ(la_version(), numbers);
  EXPECT_STREQ(version(), LIVEAVATAR_VERSION_STRING);
}

}  // namespace
}  // namespace liveavatar
