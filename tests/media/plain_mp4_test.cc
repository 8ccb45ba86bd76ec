// A finished MP4 is a plain one: one index, the same packets, seekable; and it plays at every moment before.
#include "media/plain_mp4.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>

#include "fixture.h"
#include "media/mp4_boxes.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

Status plain(const std::string& file) {
  int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  Status status = make_plain_mp4(fd, {file});
  ::close(fd);
  return status;
}

class PlainMp4Test : public MediaTest {
 protected:
  // The file as a killed writer leaves it, but with all frames in fragments.
  std::string fragmented(const std::string& name, int frames) {
    std::string file = path(name);
    pid_t child = fork();
    if (child == 0) {
      auto audio = open_audio(case_file("v1.wav"));
      auto writer =
          VideoWriter::open(file, {.width = 64, .height = 64, .preset = "ultrafast", .threads = 1}, std::move(*audio));
      std::vector<uint8_t> rgb(64 * 64 * 3);
      for (int f = 0; f < frames && writer.ok(); ++f) {
        std::fill(rgb.begin(), rgb.end(), uint8_t(20 + 2 * f));
        if (!(*writer)->write_frame(rgb.data()).ok()) _exit(1);
      }
      _exit(0);  // no destructor: as after a kill
    }
    waitpid(child, nullptr, 0);
    return file;
  }
};

std::vector<std::string> names_of(const std::string& file) {
  std::string bytes = MediaTest::slurp(file);
  std::vector<std::string> names;
  for (const Mp4Box& box : boxes_in(bytes, 0)) names.push_back(box.name);
  return names;
}

struct Packets {
  std::vector<std::string> bytes;
  std::vector<int64_t> times;
  int64_t stated_frames = 0, stated_duration = 0;
};

Packets packets_of(const std::string& file, AVMediaType kind) {
  auto input = open_input(file, kind);
  EXPECT_TRUE(input.ok()) << input.status().message();
  Packets packets;
  const AVStream& stream = *input->format->streams[input->stream];
  packets.stated_frames = stream.nb_frames;
  packets.stated_duration = av_rescale_q(stream.duration, stream.time_base, {1, 1000});
  while (av_read_frame(input->format.get(), input->packet.get()) == 0) {
    const AVPacket& p = *input->packet;
    if (p.stream_index == input->stream) {
      packets.bytes.emplace_back(reinterpret_cast<char*>(p.data), size_t(p.size));
      packets.times.push_back(p.pts);
    }
    av_packet_unref(input->packet.get());
  }
  return packets;
}

int luma_at(const std::string& file, double seconds) {
  auto input = open_input(file, AVMEDIA_TYPE_VIDEO);
  EXPECT_TRUE(input.ok());
  const AVStream& stream = *input->format->streams[input->stream];
  auto target = int64_t(seconds / av_q2d(stream.time_base));
  EXPECT_GE(av_seek_frame(input->format.get(), input->stream, target, AVSEEK_FLAG_BACKWARD), 0);
  EXPECT_TRUE(input->next());
  EXPECT_GE(double(input->frame->pts) * av_q2d(stream.time_base),
            seconds - 1.01);  // the key frame before, not the first
  while (input->frame->pts < target && input->next()) {
  }
  return input->frame->data[0][0];
}

TEST_F(PlainMp4Test, TheIndexHoldsTheSamePackets) {
  for (const char* ending : {".mp4", ".mov", ".MP4", ".m4v"}) {
    SCOPED_TRACE(ending);
    std::string file = fragmented(std::string("a") + ending, 120);
    std::vector<std::string> before = names_of(file);
    ASSERT_GT(std::count(before.begin(), before.end(), "moof"), 3);
    Packets video = packets_of(file, AVMEDIA_TYPE_VIDEO), audio = packets_of(file, AVMEDIA_TYPE_AUDIO);
    ASSERT_GT(video.bytes.size(), 95u);
    ASSERT_TRUE(plain(file).ok());
    EXPECT_EQ(names_of(file), (std::vector<std::string>{"ftyp", "mdat", "moov"}));
    Packets plain_video = packets_of(file, AVMEDIA_TYPE_VIDEO), plain_audio = packets_of(file, AVMEDIA_TYPE_AUDIO);
    EXPECT_EQ(plain_video.bytes, video.bytes);
    EXPECT_EQ(plain_video.times, video.times);
    EXPECT_EQ(plain_audio.bytes, audio.bytes);
    EXPECT_EQ(plain_audio.times, audio.times);
    EXPECT_EQ(plain_video.stated_frames, int64_t(video.bytes.size()));
    EXPECT_EQ(plain_audio.stated_frames, int64_t(audio.bytes.size()));
    EXPECT_EQ(plain_video.stated_duration, int64_t(video.bytes.size()) * 40);
  }
}

TEST_F(PlainMp4Test, AFinishedVideoIsPlainAndSeekable) {
  auto audio = open_audio(case_file("v1.wav"));
  auto writer = VideoWriter::open(path("a.mp4"), {.width = 64, .height = 64, .preset = "ultrafast", .threads = 1},
                                  std::move(*audio));
  ASSERT_TRUE(writer.ok());
  std::vector<uint8_t> rgb(64 * 64 * 3);
  for (int f = 0; f < 110; ++f) {
    std::fill(rgb.begin(), rgb.end(), uint8_t(20 + 2 * f));
    ASSERT_TRUE((*writer)->write_frame(rgb.data()).ok());
  }
  ASSERT_TRUE((*writer)->finish().ok());
  EXPECT_EQ(names_of(path("a.mp4")), (std::vector<std::string>{"ftyp", "mdat", "moov"}));
  Packets video = packets_of(path("a.mp4"), AVMEDIA_TYPE_VIDEO);
  EXPECT_EQ(video.stated_frames, 110);
  EXPECT_EQ(video.stated_duration, 4400);
  EXPECT_NEAR(double(packets_of(path("a.mp4"), AVMEDIA_TYPE_AUDIO).stated_duration), 4400, 1);
  for (int f : {0, 30, 77, 109}) EXPECT_NEAR(luma_at(path("a.mp4"), f / 25.0), 16 + (20 + 2 * f) * 219 / 255, 3) << f;
}

// Killed between the index and the eight bytes: the fragments still play.
TEST_F(PlainMp4Test, PlaysBetweenTheTwoWrites) {
  std::string file = fragmented("a.mp4", 100), before = slurp(file);
  size_t frames = packets_of(file, AVMEDIA_TYPE_VIDEO).bytes.size();
  ASSERT_TRUE(plain(file).ok());
  std::string after = slurp(file);
  ASSERT_GT(after.size(), before.size());
  for (size_t more : {size_t{5}, (after.size() - before.size()) / 2, after.size() - before.size()}) {
    write("killed.mp4", before + after.substr(before.size(), more));
    EXPECT_EQ(packets_of(path("killed.mp4"), AVMEDIA_TYPE_VIDEO).bytes.size(), frames) << more;
  }
}

TEST_F(PlainMp4Test, AFullDiskLeavesTheFragments) {
  std::string file = fragmented("a.mp4", 100), before = slurp(file);
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit{before.size() + 500, before.size() + 500};
    setrlimit(RLIMIT_FSIZE, &limit);
    Status status = plain(file);
    _exit(status.code() == ErrorCode::kIo && status.message().find("whole and plays") != std::string::npos ? 0 : 1);
  }
  int ended = 0;
  waitpid(child, &ended, 0);
  EXPECT_EQ(ended, 0);
  EXPECT_EQ(slurp(file), before);
}

TEST_F(PlainMp4Test, IndexesFilesBeyondFourGigabytes) {
  std::string file = fragmented("a.mp4", 60);
  Packets video = packets_of(file, AVMEDIA_TYPE_VIDEO);
  size_t size = slurp(file).size();
  uint64_t hole = uint64_t{5} << 30;  // a box of 5 GiB without data, behind the fragments
  std::ofstream(file, std::ios::app | std::ios::binary) << big_endian(1, 4) + "free" + big_endian(hole, 8);
  std::filesystem::resize_file(file, size + hole);
  ASSERT_TRUE(plain(file).ok());
  Packets plain = packets_of(file, AVMEDIA_TYPE_VIDEO);
  EXPECT_EQ(plain.bytes, video.bytes);
  EXPECT_EQ(plain.stated_frames, int64_t(video.bytes.size()));
}

TEST_F(PlainMp4Test, LeavesAFileWithoutFragmentsUnchanged) {
  std::string file = fragmented("a.mp4", 60);
  ASSERT_TRUE(plain(file).ok());
  std::string once = slurp(file);
  EXPECT_TRUE(plain(file).ok());
  EXPECT_EQ(slurp(file), once);
  write("text.mp4", "no boxes here, only words");
  EXPECT_TRUE(plain(path("text.mp4")).ok());
  EXPECT_EQ(slurp(path("text.mp4")), "no boxes here, only words");
}

TEST_F(PlainMp4Test, AcceptsExtensionsInAnyCase) {
  for (const char* good : {"a.mp4", "a.MP4", "a.Mov", "x/y.mkv", "a.m4v", "50%d.mp4", "a:b.mp4", "-x.mkv"})
    EXPECT_TRUE(check_video_path(good).ok()) << good;
  for (const char* bad : {"", "a", "a.avi", "a.webm", "mp4", ".mp4", "a.mp4.", "a.mp4/"}) {
    Status status = check_video_path(bad);
    EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find(".mp4, .m4v, .mov or .mkv"), std::string::npos) << status.message();
  }
}

TEST_F(PlainMp4Test, MatroskaPlaysWhileItGrowsAndAfterwards) {
  std::string grown = fragmented("a.mkv", 100);
  EXPECT_GE(packets_of(grown, AVMEDIA_TYPE_VIDEO).bytes.size(), 75u);
  auto writer = VideoWriter::open(path("b.mkv"), {.width = 64, .height = 64}, nullptr);
  ASSERT_TRUE(writer.ok());
  std::vector<uint8_t> rgb(64 * 64 * 3, 99);
  for (int f = 0; f < 60; ++f) ASSERT_TRUE((*writer)->write_frame(rgb.data()).ok());
  ASSERT_TRUE((*writer)->finish().ok());
  EXPECT_EQ(packets_of(path("b.mkv"), AVMEDIA_TYPE_VIDEO).bytes.size(), 60u);
}

TEST_F(PlainMp4Test, WritesTheFileWithExactlyThatName) {
  std::vector<uint8_t> rgb(64 * 64 * 3, 99);
  for (const char* name : {"50%d.mp4", "me%03d.mp4", "a:b.mp4", "-a.mp4", "[a]?.mov", "file:x.mkv", "50%.mkv"}) {
    auto writer = VideoWriter::open(path(name), {.width = 64, .height = 64, .preset = "ultrafast"}, nullptr);
    ASSERT_TRUE(writer.ok()) << writer.status().message();
    ASSERT_TRUE((*writer)->write_frame(rgb.data()).ok());
    ASSERT_TRUE((*writer)->finish().ok());
    EXPECT_EQ(packets_of(path(name), AVMEDIA_TYPE_VIDEO).bytes.size(), 1u) << name;
  }
}

}  // namespace
}  // namespace liveavatar
