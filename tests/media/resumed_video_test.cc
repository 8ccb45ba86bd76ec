// A video file that is gone on with is the file that would have been made at once.
#include <fcntl.h>
#include <unistd.h>

#include "fixture.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

constexpr int kSide = 64;
constexpr int64_t kFrames = 100;

class ResumedVideoTest : public MediaTest {
 protected:
  static VideoWriterOptions resumable() {
    return {.width = kSide, .height = kSide, .preset = "ultrafast", .resumable = true};
  }
  // A picture that moves, so that its encoder has something to remember.
  static std::vector<uint8_t> frame_of(int64_t f) {
    std::vector<uint8_t> rgb(kSide * kSide * 3);
    for (size_t i = 0; i < rgb.size(); ++i)
      rgb[i] = static_cast<uint8_t>((i * 7 + i / 192 * static_cast<size_t>(f)) % 251);
    return rgb;
  }
  static std::unique_ptr<AudioStream> voice() {
    auto audio = open_audio(case_file("v1.wav"));
    EXPECT_TRUE(audio.ok()) << audio.status().message();
    return std::move(*audio);
  }
  static Status write(VideoWriter& writer, int64_t first, int64_t end) {
    for (int64_t f = first; f < end; ++f) LA_RETURN_IF_ERROR(writer.write_frame(frame_of(f).data()));
    return {};
  }
  // Frames [0, frames), and no end. Returns its last position.
  static Expected<FilePosition> begin(const std::string& file, int64_t frames) {
    LA_ASSIGN_OR_RETURN(auto writer, VideoWriter::open(file, resumable(), voice()));
    LA_RETURN_IF_ERROR(write(*writer, 0, frames));
    return writer->position();
  }
  static Status go_on(const std::string& file, const FilePosition& from) {
    LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::acquire({"", file}));
    LA_ASSIGN_OR_RETURN(auto writer, VideoWriter::resume(claim, from, resumable(), voice()));
    LA_RETURN_IF_ERROR(write(*writer, from.frames, kFrames));
    return writer->finish();
  }
  std::string at_once() {
    const std::string file = path("once.mp4");
    auto writer = VideoWriter::open(file, resumable(), voice());
    EXPECT_TRUE(writer.ok()) << writer.status().message();
    EXPECT_TRUE(write(**writer, 0, kFrames).ok());
    EXPECT_TRUE((*writer)->finish().ok());
    return slurp(file);
  }
};

TEST_F(ResumedVideoTest, HasTheBytesOfOneThatWasMadeAtOnce) {
  const std::string whole = at_once();
  for (const int64_t frames : {24, 35, 36, 50, 72, 99, 100}) {
    const std::string file = path("cut.mp4");
    const auto from = begin(file, frames);
    ASSERT_TRUE(from.ok()) << from.status().message();
    EXPECT_EQ(from->frames, frames / kSegmentFrames * kSegmentFrames);
    const Status done = go_on(file, *from);
    ASSERT_TRUE(done.ok()) << done.message();
    EXPECT_TRUE(slurp(file) == whole) << "cut after " << frames << " frames";
    std::filesystem::remove(file);
  }
}

TEST_F(ResumedVideoTest, CanBeGoneOnWithAgainFromThere) {
  const std::string whole = at_once(), file = path("cut.mp4");
  const auto first = begin(file, 40);
  ASSERT_TRUE(first.ok()) << first.status().message();
  FilePosition second;
  {
    auto claim = OutputClaim::acquire({"", file});
    auto writer = VideoWriter::resume(*claim, *first, resumable(), voice());
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    ASSERT_TRUE(write(**writer, 24, 80).ok());
    second = *(*writer)->position();
  }
  EXPECT_EQ(second.frames, 72);
  ASSERT_TRUE(go_on(file, second).ok());
  EXPECT_TRUE(slurp(file) == whole);
}

// Stopped by its user: the file had its index, and the snapshot stayed.
TEST_F(ResumedVideoTest, AFinishedFileIsGoneOnWith) {
  const std::string whole = at_once(), file = path("cut.mp4");
  auto writer = VideoWriter::open(file, resumable(), voice());
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(write(**writer, 0, 60).ok());
  const FilePosition from = *(*writer)->position();
  ASSERT_TRUE((*writer)->finish().ok());
  writer->reset();
  ASSERT_TRUE(go_on(file, from).ok());
  EXPECT_TRUE(slurp(file) == whole);
}

TEST_F(ResumedVideoTest, UntilTheFirstNewFragmentTheFileStays) {
  const std::string file = path("cut.mp4");
  const auto from = begin(file, 50);
  ASSERT_TRUE(from.ok()) << from.status().message();
  const std::string before = slurp(file);
  {
    auto claim = OutputClaim::acquire({"", file});
    auto writer = VideoWriter::resume(*claim, *from, resumable(), voice());
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    ASSERT_TRUE(write(**writer, 48, 54).ok());
  }
  EXPECT_TRUE(slurp(file) == before);
}

TEST_F(ResumedVideoTest, AShorterFileIsRefused) {
  const std::string file = path("cut.mp4");
  const auto from = begin(file, 50);
  ASSERT_TRUE(from.ok()) << from.status().message();
  std::filesystem::resize_file(file, static_cast<uintmax_t>(from->bytes - 1));
  const Status refused = go_on(file, *from);
  EXPECT_EQ(refused.code(), ErrorCode::kCorrupt);
  EXPECT_NE(refused.message().find("shorter"), std::string::npos) << refused.message();
}

TEST_F(ResumedVideoTest, OnlyMp4) {
  EXPECT_TRUE(check_resumable("a.mp4").ok());
  EXPECT_TRUE(check_resumable("a.MOV").ok());
  EXPECT_EQ(check_resumable("a.mkv").code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(check_resumable("a.m3u8").code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace liveavatar
