// Which encoder a video file gets. No card is here: the lists of encoders are made up, and the real ones are refused.
#include "media/video_encoder.h"

#include <set>

#include "fixture.h"

namespace liveavatar {
namespace {

using Names = std::vector<std::string>;

// Opens the encoders of a list and notes what it was asked for.
struct Machine {
  std::set<std::string> encoders;
  Names tried;

  Expected<std::string> choose(VideoEncoder asked) {
    tried.clear();
    return choose_encoder(asked, [this](const std::string& name) -> Status {
      tried.push_back(name);
      return encoders.contains(name) ? Status() : unsupported(name + " is not here");
    });
  }
};

TEST(ChooseEncoder, AutoTakesTheFirstOfTheCardsThatOpensElseTheCpus) {
  Machine all{{"h264_nvenc", "hevc_nvenc", "av1_nvenc", "libx264"}, {}};
  EXPECT_EQ(*all.choose(VideoEncoder::kAuto), "h264_nvenc");
  EXPECT_EQ(all.tried, Names{"h264_nvenc"});
  Machine wide{{"hevc_nvenc", "av1_nvenc", "libx264"}, {}};
  EXPECT_EQ(*wide.choose(VideoEncoder::kAuto), "hevc_nvenc");
  Machine newest{{"av1_nvenc", "libx264"}, {}};
  EXPECT_EQ(*newest.choose(VideoEncoder::kAuto), "av1_nvenc");
  Machine none{{"libx264"}, {}};
  EXPECT_EQ(*none.choose(VideoEncoder::kAuto), "libx264");
  EXPECT_EQ(none.tried, (Names{"h264_nvenc", "hevc_nvenc", "av1_nvenc", "libx264"}));
}

TEST(ChooseEncoder, CpuAsksNoCard) {
  Machine all{{"h264_nvenc", "libx264"}, {}};
  EXPECT_EQ(*all.choose(VideoEncoder::kCpu), "libx264");
  EXPECT_EQ(all.tried, Names{"libx264"});
}

TEST(ChooseEncoder, NvencDoesNotFallBackAndSaysWhatTheFirstOneSaid) {
  Machine cpu{{"libx264"}, {}};
  const auto chosen = cpu.choose(VideoEncoder::kNvenc);
  EXPECT_EQ(chosen.status().code(), ErrorCode::kUnsupported);
  EXPECT_EQ(chosen.status().message(),
            "`video_encoder` nvenc: h264_nvenc is not here; it takes an NVIDIA card with NVENC and its driver; choose "
            "auto or cpu");
  EXPECT_EQ(cpu.tried, (Names{"h264_nvenc", "hevc_nvenc", "av1_nvenc"}));
}

TEST(ChooseEncoder, WithoutAnyTheCpusErrorIsSaid) {
  Machine empty;
  EXPECT_EQ(empty.choose(VideoEncoder::kAuto).status().message(), "libx264 is not here");
}

// At 64x64, which is below what any NVENC takes.
class VideoEncoderTest : public MediaTest {
 protected:
  static VideoWriterOptions with(VideoEncoder encoder) {
    VideoWriterOptions options{.width = 64, .height = 64};
    options.encoder = encoder;
    options.threads = 1;
    return options;
  }
  std::string written(const std::string& name, VideoEncoder encoder) {
    auto writer = VideoWriter::open(path(name), with(encoder), nullptr);
    EXPECT_TRUE(writer.ok()) << writer.status().message();
    EXPECT_EQ((*writer)->encoder(), "libx264");
    for (int f = 0; f < 30; ++f) {
      const std::vector<uint8_t> frame(64 * 64 * 3, static_cast<uint8_t>(7 * f));
      EXPECT_TRUE((*writer)->write_frame(frame.data()).ok());
    }
    EXPECT_TRUE((*writer)->finish().ok());
    return slurp(path(name));
  }
};

TEST_F(VideoEncoderTest, AutoFallsBackToTheFileOfTheCpus) {
  const std::string cpu = written("cpu.mp4", VideoEncoder::kCpu);
  EXPECT_GT(cpu.size(), 1000u);
  EXPECT_EQ(written("auto.mp4", VideoEncoder::kAuto), cpu);
}

TEST_F(VideoEncoderTest, NvencIsRefusedBeforeThereIsAFile) {
  const Status status = VideoWriter::open(path("a.mp4"), with(VideoEncoder::kNvenc), nullptr).status();
  EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
  EXPECT_TRUE(status.message().starts_with("`video_encoder` nvenc: ")) << status.message();
  EXPECT_NE(status.message().find("h264_nvenc"), std::string::npos) << status.message();
  EXPECT_FALSE(std::filesystem::exists(path("a.mp4")));
  EXPECT_EQ(check_video_encoder(with(VideoEncoder::kNvenc)).message(), status.message());
}

}  // namespace
}  // namespace liveavatar
