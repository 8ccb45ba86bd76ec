// Which encoder a job's video file has: worked out with the job, and refused with it.
#include <gtest/gtest.h>

#include "support/mini.h"
#include "support/resolved.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

// The host's encoder unless something else is asked for; a card's is tried when the file is created.
TEST(VideoEncoderOfAJob, FollowsFromTheRequestAndTheDevice) {
  EngineOptions options = mini_options();
  GenerateRequest job = mini_job();
  EXPECT_EQ(resolve_job(options, job)->info.video_encoder, VideoEncoder::kCpu);
  options.device = "cuda:1";
  const JobInfo on_card = resolve_job(options, job)->info;
  EXPECT_EQ(on_card.video_encoder, VideoEncoder::kAuto);
  EXPECT_EQ(on_card.video_card, 1);
  job.video_encoder = VideoEncoder::kCpu;
  EXPECT_EQ(resolve_job(options, job)->info.video_encoder, VideoEncoder::kCpu);
  const TempDir dir;
  EXPECT_EQ((*VideoFile::create(dir.file("small.mp4"), on_card, ""))->encoder(), "libx264");
}

// No NVENC opens for 64x64, on any machine.
TEST(VideoEncoderOfAJob, OneThatIsNotHereIsSaidBeforeAnyWork) {
  auto engine = *Engine::load(mini_options());
  GenerateRequest job = mini_job();
  job.video_encoder = VideoEncoder::kNvenc;
  bool began = false;
  job.on_progress = [&](const Progress&) { began = true; };
  const Status refused = engine->generate(job, [](const VideoChunk&) { return true; });
  EXPECT_EQ(refused.code(), ErrorCode::kUnsupported);
  EXPECT_TRUE(refused.message().starts_with("`video_encoder` nvenc: h264_nvenc ")) << refused.message();
  EXPECT_FALSE(began);
  EXPECT_EQ(engine->describe(job).status().message(), refused.message());
  job.video_encoder = static_cast<VideoEncoder>(9);
  EXPECT_EQ(engine->describe(job).status().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace liveavatar
