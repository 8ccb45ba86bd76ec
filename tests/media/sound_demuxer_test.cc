// Opus that comes in pieces of a container.
#include "media/sound_demuxer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

namespace liveavatar {
namespace {

using namespace std::chrono_literals;

// A tone, encoded by FFmpeg's program.
std::string encoded(const std::string& container, double seconds) {
  const std::string live = container == "webm" ? " -live 1" : " -page_duration 20000";
  const std::string command = "ffmpeg -v error -f lavfi -i sine=440:duration=" + std::to_string(seconds) +
                              " -ac 2 -c:a libopus -f " + container + live + " -";
  FILE* pipe = ::popen(command.c_str(), "r");
  std::string bytes;
  char piece[4096];
  for (size_t got = 0; (got = std::fread(piece, 1, sizeof(piece), pipe)) > 0;) bytes.append(piece, got);
  EXPECT_EQ(::pclose(pipe), 0);
  return bytes;
}

// What a demuxer says, for a test that waits.
struct Heard {
  std::mutex mutex;
  std::condition_variable changed;
  int64_t samples = 0;
  int errors = 0, marks = 0;
  Status why;

  SoundCalls calls() {
    return {[this](std::span<const int16_t> got) {
              std::lock_guard lock(mutex);
              samples += std::ssize(got);
              changed.notify_all();
            },
            [this](const Status& status) {
              std::lock_guard lock(mutex);
              ++errors;
              why = status;
              changed.notify_all();
            }};
  }
  std::function<void()> mark() {
    return [this] {
      std::lock_guard lock(mutex);
      ++marks;
      changed.notify_all();
    };
  }
  template <typename Condition>
  bool until(Condition condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 60s, condition);
  }
};

class SoundDemuxerTest : public testing::TestWithParam<const char*> {};

TEST_P(SoundDemuxerTest, DecodesWhateverTheCuts) {
  const std::string bytes = encoded(GetParam(), 1);
  for (const size_t piece : {size_t{1}, size_t{777}, bytes.size()}) {
    Heard heard;
    auto demuxer = SoundDemuxer::open(GetParam(), 16000, heard.calls());
    ASSERT_TRUE(demuxer.ok());
    for (size_t at = 0; at < bytes.size(); at += piece)
      ASSERT_TRUE((*demuxer)->push(std::string_view(bytes).substr(at, piece)).ok());
    (*demuxer)->then(heard.mark());
    ASSERT_TRUE(heard.until([&] { return heard.marks == 1; }));
    EXPECT_NEAR(double(heard.samples), 16000, 16000 * 0.03) << piece;
    EXPECT_EQ(heard.errors, 0);
  }
}

TEST_P(SoundDemuxerTest, HoldsNothingBackThatIsComplete) {
  const std::string bytes = encoded(GetParam(), 2);
  Heard heard;
  auto demuxer = SoundDemuxer::open(GetParam(), 48000, heard.calls());
  ASSERT_TRUE(demuxer.ok());
  ASSERT_TRUE((*demuxer)->push(std::string_view(bytes).substr(0, bytes.size() / 2)).ok());
  (*demuxer)->then(heard.mark());
  ASSERT_TRUE(heard.until([&] { return heard.marks == 1; }));
  EXPECT_GT(heard.samples, 48000 * 3 / 10);
}

TEST_P(SoundDemuxerTest, SaysOnceWhatIsNoOpus) {
  Heard heard;
  auto demuxer = SoundDemuxer::open(GetParam(), 16000, heard.calls());
  ASSERT_TRUE(demuxer.ok());
  for (int i = 0; i < 40; ++i) {
    const Status pushed = (*demuxer)->push(std::string(60000, static_cast<char>(i)));
    if (!pushed.ok()) {
      EXPECT_EQ(pushed.code(), ErrorCode::kOutOfMemory);
    }
    std::this_thread::sleep_for(1ms);
  }
  (*demuxer)->then(heard.mark());
  ASSERT_TRUE(heard.until([&] { return heard.marks == 1; }));
  EXPECT_EQ(heard.errors, 1);
  EXPECT_EQ(heard.why.code(), ErrorCode::kCorrupt);
}

TEST_P(SoundDemuxerTest, EndsWhileItWaits) {
  Heard heard;
  auto demuxer = SoundDemuxer::open(GetParam(), 16000, heard.calls());
  ASSERT_TRUE(demuxer.ok());
  ASSERT_TRUE((*demuxer)->push(encoded(GetParam(), 1).substr(0, 300)).ok());
  demuxer->reset();
  EXPECT_EQ(heard.errors, 0);
}

INSTANTIATE_TEST_SUITE_P(Containers, SoundDemuxerTest, testing::Values("webm", "ogg"));

// FFmpeg would read 256 MiB of it.
TEST(SoundDemuxer, RefusesAnElementThatIsTooLarge) {
  const std::string bytes = encoded("webm", 0.1);
  const size_t cluster = bytes.find("\x1f\x43\xb6\x75");
  ASSERT_NE(cluster, std::string::npos);
  Heard heard;
  auto demuxer = SoundDemuxer::open("webm", 16000, heard.calls());
  ASSERT_TRUE(demuxer.ok());
  ASSERT_TRUE((*demuxer)->push(bytes.substr(0, cluster) + std::string("\xec\x08\xff\xff\xff\xff", 6)).ok());
  for (int pieces = 1; pieces <= 24; ++pieces) {
    ASSERT_TRUE((*demuxer)->push(std::string(60000, '\0')).ok());
    (*demuxer)->then(heard.mark());
    ASSERT_TRUE(heard.until([&] { return heard.marks == pieces; }));
  }
  EXPECT_EQ(heard.errors, 1);
  EXPECT_EQ(heard.why.code(), ErrorCode::kCorrupt);
}

TEST(SoundDemuxer, KnowsItsContainers) {
  const auto demuxer = SoundDemuxer::open("mp4", 16000, {});
  EXPECT_EQ(demuxer.status().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace liveavatar
