// Live sessions of the C API, at real time with the mini model.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "c_api/fields.h"
#include "liveavatar/c.h"

namespace liveavatar {
namespace {

const std::string kSource = LA_SOURCE_DIR;

std::string taken(char* message) {
  std::string text = message == nullptr ? "" : message;
  la_free(message);
  return text;
}

// What a session's callbacks saw.
struct Heard {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t frames = 0, stop_after = 1 << 30;
  std::vector<int16_t> audio;
  la_live_chunk last{};
  la_code ended = LA_OK;
  std::string why;

  template <typename Until>
  bool wait(const Until& until) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(120), until);
  }
};

int take(const la_live_chunk* chunk, void* user) {
  Heard& heard = *static_cast<Heard*>(user);
  const std::lock_guard lock(heard.mutex);
  EXPECT_EQ(chunk->first_frame, heard.frames);
  EXPECT_EQ(chunk->samples, chunk->frames * chunk->sample_rate / 25);
  EXPECT_NE(chunk->rgb, nullptr);
  heard.frames += chunk->frames;
  heard.audio.insert(heard.audio.end(), chunk->audio, chunk->audio + chunk->samples);
  heard.last = *chunk;
  heard.changed.notify_all();
  return heard.frames >= heard.stop_after;
}

void end(la_code code, const char* message, void* user) {
  Heard& heard = *static_cast<Heard*>(user);
  const std::lock_guard lock(heard.mutex);
  heard.ended = code;
  heard.why = message;
  heard.changed.notify_all();
}

class CLive : public testing::Test {
 protected:
  void SetUp() override {
    la_engine_options* options = la_engine_options_new();
    la_engine_options_set(options, "checkpoint_dir", (kSource + "/models/mini").c_str(), nullptr);
    la_engine_options_set(options, "threads", "2", nullptr);
    char* message = nullptr;
    ASSERT_EQ(la_engine_load(options, &engine_, &message), LA_OK) << taken(message);
    la_engine_options_free(options);
    request_ = la_live_request_new();
    for (auto [name, value] : {std::pair<const char*, std::string>{"image", kSource + "/assets/demo/portrait.png"},
                               {"prompt", "a test"},
                               {"size", "64*64"},
                               {"sample_rate", "16000"},
                               {"allow_changes", "true"}})
      ASSERT_EQ(la_live_request_set(request_, name, value.c_str(), nullptr), LA_OK);
    ASSERT_EQ(la_live_request_set_callbacks(request_, take, end, &heard_, nullptr), LA_OK);
  }
  void TearDown() override {
    la_live_free(live_);
    la_live_request_free(request_);
    la_engine_free(engine_);
  }
  void open() {
    char* message = nullptr;
    ASSERT_EQ(la_live_open(engine_, request_, &live_, &message), LA_OK) << taken(message);
    EXPECT_EQ(message, nullptr);
  }

  Heard heard_;
  la_engine* engine_ = nullptr;
  la_live_request* request_ = nullptr;
  la_live* live_ = nullptr;
};

TEST_F(CLive, WhatIsPushedComesOutWithItsFrames) {
  open();
  EXPECT_EQ(la_live_width(live_), 64);
  EXPECT_EQ(la_live_height(live_), 64);
  const std::vector<int16_t> samples(16000, 700);
  const std::vector<float> floats(1600, 0.5F);
  EXPECT_EQ(la_live_push(live_, samples.data(), samples.size(), nullptr), LA_OK);
  EXPECT_EQ(la_live_push_float(live_, floats.data(), floats.size(), nullptr), LA_OK);
  EXPECT_EQ(la_live_push(live_, nullptr, 0, nullptr), LA_OK);
  EXPECT_EQ(la_live_end_speech(live_, nullptr), LA_OK);
  ASSERT_TRUE(heard_.wait([&] { return heard_.last.speech == 0 && heard_.last.speech_complete; }));
  la_live_close(live_);
  la_live_close(live_);
  EXPECT_EQ(heard_.last.speech_samples, 17600);
  EXPECT_EQ(std::count(heard_.audio.begin(), heard_.audio.end(), 700), 16000);
  EXPECT_EQ(std::count(heard_.audio.begin(), heard_.audio.end(), 16384), 1600);
  EXPECT_EQ(heard_.ended, LA_OK);  // not called
  char* message = nullptr;
  EXPECT_EQ(la_live_push(live_, samples.data(), 1, &message), LA_CANCELLED);
  EXPECT_EQ(taken(message), "the live session is closed; open another");
}

TEST_F(CLive, AnInterruptionAndChangesSayWhere) {
  open();
  const std::vector<int16_t> samples(5 * 16000, 700);
  ASSERT_EQ(la_live_push(live_, samples.data(), samples.size(), nullptr), LA_OK);
  ASSERT_TRUE(heard_.wait([&] { return heard_.last.speech_samples > 0; }));
  la_live_position at{-1, -1, 0};
  ASSERT_EQ(la_live_interrupt(live_, &at, nullptr), LA_OK);
  EXPECT_EQ(at.speech, 0);
  EXPECT_GT(at.samples, 0);
  EXPECT_LT(at.samples, 5 * 16000);
  EXPECT_NE(at.complete, 0);
  EXPECT_EQ(la_live_interrupt(live_, nullptr, nullptr), LA_OK);
  int64_t from = -1;
  char* message = nullptr;
  ASSERT_EQ(la_live_set_prompt(live_, "a man laughs", &from, &message), LA_OK) << taken(message);
  EXPECT_GT(from, 0);
  EXPECT_EQ(from % 12, 0);
  ASSERT_EQ(la_live_set_portrait(live_, (kSource + "/assets/demo/portrait.png").c_str(), nullptr, &message), LA_OK);
  EXPECT_EQ(la_live_set_portrait(live_, "/nowhere.png", &from, &message), LA_NOT_FOUND);
  EXPECT_NE(taken(message).find("/nowhere.png"), std::string::npos);
  ASSERT_TRUE(heard_.wait([&] { return heard_.frames > from; }));
}

TEST_F(CLive, ACallbackEndsItsSessionAndIsToldWhy) {
  heard_.stop_after = 4;
  open();
  ASSERT_TRUE(heard_.wait([&] { return heard_.ended != LA_OK; }));
  EXPECT_EQ(heard_.ended, LA_CANCELLED);
  EXPECT_EQ(heard_.why, "live session: on_chunk ended it");
  EXPECT_EQ(heard_.frames, 4);
  EXPECT_EQ(la_live_end_speech(live_, nullptr), LA_CANCELLED);
}

TEST_F(CLive, NullsAndWrongValuesAreRefused) {
  char* message = nullptr;
  EXPECT_EQ(la_live_request_set(request_, "sample_rat", "8000", &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message).find("\"sample_rat\" is no name that can be set here; there are image, prompt, size"), 0u);
  EXPECT_EQ(la_live_request_set(request_, "allow_changes", "1", nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_request_set(nullptr, "image", "a", nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_request_set(request_, "image", nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_request_set_callbacks(request_, nullptr, end, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_open(engine_, nullptr, &live_, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_open(nullptr, request_, &live_, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_open(engine_, request_, nullptr, nullptr), LA_INVALID_ARGUMENT);
  la_live_request* empty = la_live_request_new();
  EXPECT_EQ(la_live_open(engine_, empty, &live_, &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message), "la_live_open: no on_chunk; set it with la_live_request_set_callbacks");
  la_live_request_free(empty);
  EXPECT_EQ(la_live_request_set(request_, "sample_rate", "44101", nullptr), LA_OK);
  EXPECT_EQ(la_live_open(engine_, request_, &live_, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(live_, nullptr);
  EXPECT_EQ(la_live_push(nullptr, nullptr, 0, &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message), "la_live_push: live is NULL");
  EXPECT_EQ(la_live_push_float(nullptr, nullptr, 0, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_end_speech(nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_interrupt(nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_set_prompt(nullptr, "a", nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_set_portrait(nullptr, "a", nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_width(nullptr) + la_live_height(nullptr), 0);
  la_live_close(nullptr);
  la_live_free(nullptr);
  la_live_request_free(nullptr);
}

TEST_F(CLive, AChangeWithoutMemoryForItAndMissingSamplesAreRefused) {
  ASSERT_EQ(la_live_request_set(request_, "allow_changes", "false", nullptr), LA_OK);
  open();
  char* message = nullptr;
  EXPECT_EQ(la_live_set_prompt(live_, "a man laughs", nullptr, &message), LA_UNSUPPORTED);
  EXPECT_NE(taken(message).find("allow_changes"), std::string::npos);
  EXPECT_EQ(la_live_set_prompt(live_, nullptr, nullptr, nullptr), LA_INVALID_ARGUMENT);
  EXPECT_EQ(la_live_push(live_, nullptr, 5, &message), LA_INVALID_ARGUMENT);
  EXPECT_EQ(taken(message), "la_live_push: samples is NULL");
}

TEST(CLiveFields, EveryFieldIsSetByItsName) {
  LiveRequest request;
  for (auto [name, value] : {std::pair<const char*, const char*>{"image", "a.png"},
                             {"prompt", "b"},
                             {"size", "64*64"},
                             {"fit", "original"},
                             {"infer_frames", "24"},
                             {"sample_steps", "3"},
                             {"sample_shift", "2"},
                             {"seed", "5"},
                             {"sample_rate", "8000"},
                             {"context_seconds", "1.5"},
                             {"look_ahead_seconds", "0.2"},
                             {"queue_seconds", "9"},
                             {"microphone", "true"},
                             {"allow_changes", "true"}})
    EXPECT_TRUE(set_field(request, name, value).ok()) << name;
  EXPECT_EQ(request.image + request.prompt + request.size, "a.pngb64*64");
  EXPECT_EQ(request.fit, Fit::kOriginal);
  EXPECT_EQ(request.infer_frames, 24);
  EXPECT_EQ(request.sample_steps, 3);
  EXPECT_EQ(request.sample_shift, 2);
  EXPECT_EQ(request.seed, 5u);
  EXPECT_EQ(request.sample_rate, 8000);
  EXPECT_EQ(request.context_seconds, 1.5);
  EXPECT_EQ(request.look_ahead_seconds, 0.2);
  EXPECT_EQ(request.queue_seconds, 9);
  EXPECT_TRUE(request.allow_changes);
}

}  // namespace
}  // namespace liveavatar
