// Video out: what is written can be read back, while it grows, after a crash, and to the last frame of its audio.
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fixture.h"
#include "media/contact_sheet.h"
#include "media/image.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

constexpr int kSide = 64;

class VideoTest : public MediaTest {};

VideoWriterOptions small() { return {.width = kSide, .height = kSide, .preset = "ultrafast", .threads = 1}; }

// Grey that grows by 2 a frame, so that each frame is known by its brightness.
std::vector<uint8_t> frame_of(int64_t f) {
  return std::vector<uint8_t>(kSide * kSide * 3, static_cast<uint8_t>(20 + f * 2 % 200));
}

struct Contents {
  int64_t video_frames = 0, audio_samples = 0;
  double video_end = 0, audio_end = 0;            // seconds, by the frames' own times
  double video_duration = 0, audio_duration = 0;  // as the file states them
  int audio_rate = 0, audio_channels = 0;
  bool decodes_cleanly = true;
  std::vector<int> luma;  // first pixel of every frame
};

void read_stream(const std::string& file, AVMediaType kind, Contents& contents) {
  auto input = open_input(file, kind);
  if (!input.ok()) return;
  const AVStream& stream = *input->format->streams[input->stream];
  AVRational base = stream.time_base;
  (kind == AVMEDIA_TYPE_VIDEO ? contents.video_duration : contents.audio_duration) =
      double(stream.duration) * av_q2d(base);
  while (input->next()) {
    AVFrame& frame = *input->frame;
    contents.decodes_cleanly &= frame.decode_error_flags == 0;
    if (kind == AVMEDIA_TYPE_VIDEO) {
      ++contents.video_frames;
      contents.luma.push_back(frame.data[0][0]);
      contents.video_end =
          double(frame.pts) * av_q2d(base) + 1 / av_q2d(input->format->streams[input->stream]->avg_frame_rate);
    } else {
      contents.audio_samples += frame.nb_samples;
      contents.audio_rate = frame.sample_rate;
      contents.audio_channels = frame.ch_layout.nb_channels;
      contents.audio_end = double(frame.pts) * av_q2d(base) + double(frame.nb_samples) / frame.sample_rate;
    }
  }
}

Contents contents_of(const std::string& file) {
  Contents contents;
  read_stream(file, AVMEDIA_TYPE_VIDEO, contents);
  read_stream(file, AVMEDIA_TYPE_AUDIO, contents);
  return contents;
}

std::unique_ptr<AudioStream> voice(const std::string& file) {
  auto audio = open_audio(file);
  EXPECT_TRUE(audio.ok()) << audio.status().message();
  return std::move(*audio);
}

Status write_video(const std::string& file, int64_t frames, std::unique_ptr<AudioStream> audio) {
  LA_ASSIGN_OR_RETURN(auto writer, VideoWriter::open(file, small(), std::move(audio)));
  for (int64_t f = 0; f < frames; ++f) LA_RETURN_IF_ERROR(writer->write_frame(frame_of(f).data()));
  return writer->finish();
}

TEST_F(VideoTest, FramesComeBackInOrderWithTheirBrightness) {
  ASSERT_TRUE(write_video(path("a.mp4"), 60, nullptr).ok());
  Contents contents = contents_of(path("a.mp4"));
  ASSERT_EQ(contents.video_frames, 60);
  EXPECT_NEAR(contents.video_end, 60 / 25.0, 0.001);
  for (int f = 0; f < 60; ++f) EXPECT_NEAR(contents.luma[size_t(f)], 16 + (20 + 2 * f) * 219 / 255, 3) << f;
}

struct VoiceCase {
  int rate_hz, channels;
  double seconds;
  int64_t frames;
  int aac_rate_hz;
};

TEST_F(VideoTest, AudioEndsWithTheLastFrame) {
  for (VoiceCase c : {VoiceCase{16000, 1, 10, 50, 32000},
                      {22050, 1, 1, 75, 44100},
                      {44100, 2, 2, 50, 44100},
                      {48000, 6, 3, 30, 48000},
                      {8000, 1, 5, 1, 32000},
                      {12345, 1, 2, 50, 48000},
                      {192000, 2, 1, 26, 96000}}) {
    SCOPED_TRACE(std::to_string(c.rate_hz) + " Hz x " + std::to_string(c.channels) + ", " + std::to_string(c.frames) +
                 " frames");
    std::string file = path("a.mp4");
    Status status =
        write_video(file, c.frames,
                    voice(write("v.wav", sine_wave({c.rate_hz, c.channels, 16}, int64_t(c.seconds * c.rate_hz), 300))));
    ASSERT_TRUE(status.ok()) << status.message();
    Contents contents = contents_of(file);
    EXPECT_EQ(contents.video_frames, c.frames);
    EXPECT_EQ(contents.audio_rate, c.aac_rate_hz);
    EXPECT_EQ(contents.audio_channels, std::min(c.channels, 2));
    EXPECT_NEAR(contents.audio_end, contents.video_end, 0.04);
    EXPECT_NEAR(contents.audio_duration, contents.video_duration, 0.04);
    EXPECT_TRUE(contents.decodes_cleanly);
  }
}

TEST_F(VideoTest, AudioIsInSyncWithTheFrames) {
  // A click at exactly one second; AAC's lead-in must not shift it.
  std::string data(2 * 32000 * 2, '\0');
  for (int i = 0; i < 100; ++i) data[size_t(2 * 32000 * 1 + 2 * i + 1)] = (i / 8) % 2 ? 0x60 : char(0xa0);
  auto audio = voice(write("v.wav", wave_header({32000, 1, 16}, data.size()) + data));
  ASSERT_TRUE(write_video(path("a.mp4"), 50, std::move(audio)).ok());
  auto input = open_input(path("a.mp4"), AVMEDIA_TYPE_AUDIO);
  ASSERT_TRUE(input.ok());
  double base = av_q2d(input->format->streams[input->stream]->time_base), loudest = 0, at = -1;
  while (input->next()) {
    auto samples = reinterpret_cast<const float*>(input->frame->data[0]);
    for (int i = 0; i < input->frame->nb_samples; ++i) {
      if (std::fabs(samples[i]) <= loudest) continue;
      loudest = std::fabs(samples[i]);
      at = double(input->frame->pts) * base + i / 32000.0;
    }
  }
  EXPECT_GT(loudest, 0.2);
  EXPECT_NEAR(at, 1.0015, 0.003);
}

TEST_F(VideoTest, SameFramesSameBytes) {
  std::string wave = write("v.wav", sine_wave({16000, 1, 16}, 32000, 300));
  ASSERT_TRUE(write_video(path("a.mp4"), 40, voice(wave)).ok());
  ASSERT_TRUE(write_video(path("b.mp4"), 40, voice(wave)).ok());
  EXPECT_EQ(slurp(path("a.mp4")), slurp(path("b.mp4")));
}

// The scaler reads in whole vectors; the caller's memory may end with the last pixel.
TEST_F(VideoTest, ReadsNothingAfterAFrame) {
  constexpr size_t kFrame = 64 * 64 * 3, kGuard = 4096;  // a frame of whole pages, then a page that must not be touched
  auto* memory =
      static_cast<uint8_t*>(mmap(nullptr, kFrame + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory + kFrame, kGuard, PROT_NONE), 0);
  auto writer = VideoWriter::open(path("guard.mp4"), {.width = 64, .height = 64}, nullptr);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  EXPECT_TRUE((*writer)->write_frame(memory).ok());
  EXPECT_TRUE((*writer)->finish().ok());
  munmap(memory, kFrame + kGuard);
}

TEST_F(VideoTest, IsPlayableWhileItGrows) {
  auto writer =
      VideoWriter::open(path("a.mp4"), small(), voice(write("v.wav", sine_wave({16000, 1, 16}, 16000 * 9, 300))));
  ASSERT_TRUE(writer.ok());
  for (int64_t f = 0; f < 200; ++f) {
    ASSERT_TRUE((*writer)->write_frame(frame_of(f).data()).ok());
    if (f % 50 == 49) {
      EXPECT_GE(contents_of(path("a.mp4")).video_frames, f + 1 - 25) << f;
    }
  }
}

TEST_F(VideoTest, AKilledWriterLeavesAllButTheLastSecond) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::string wave = write("v.wav", sine_wave({22050, 1, 16}, 22050 * 20, 300)), file = path("a.mp4");
  pid_t child = fork();
  if (child == 0) {
    auto writer = VideoWriter::open(file, small(), voice(wave));
    for (int64_t f = 0; f < 130 && writer.ok(); ++f) {
      if (!(*writer)->write_frame(frame_of(f).data()).ok()) _exit(1);
    }
    [[maybe_unused]] ssize_t told = ::write(pipe_ends[1], "x", 1);
    while (true) pause();
  }
  char ready = 0;
  ASSERT_EQ(::read(pipe_ends[0], &ready, 1), 1);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  Contents contents = contents_of(file);
  EXPECT_GE(contents.video_frames, 130 - 25);
  EXPECT_GE(contents.audio_end, (130 - 25) / 25.0);
  EXPECT_TRUE(contents.decodes_cleanly);
}

// Twelve frames are a fragment: before it the older file is whole, after it the new one plays.
TEST_F(VideoTest, AnOlderFileStaysUntilTheNewOnePlays) {
  for (const char* name : {"a.mp4", "a.mkv"}) {
    std::string file = write(name, "an older video");
    {
      auto writer = VideoWriter::open(file, small(), nullptr);
      ASSERT_TRUE(writer.ok()) << writer.status().message();
      for (int64_t f = 0; f < 11; ++f) ASSERT_TRUE((*writer)->write_frame(frame_of(f).data()).ok());
      EXPECT_EQ(slurp(file), "an older video");
    }
    EXPECT_EQ(slurp(file), "an older video");
    auto writer = VideoWriter::open(file, small(), nullptr);
    for (int64_t f = 0; f < 12; ++f) ASSERT_TRUE((*writer)->write_frame(frame_of(f).data()).ok());
    EXPECT_EQ(contents_of(file).video_frames, 12) << name;
    ASSERT_TRUE((*writer)->finish().ok());
    EXPECT_EQ(contents_of(file).video_frames, 12);
    EXPECT_FALSE(std::filesystem::exists(file + ".liveavatar-partial"));
  }
}

// A name that went to another file is not this video's any more.
TEST_F(VideoTest, AFileThatTookTheNameIsKept) {
  struct Case {
    int64_t at_frame;
    bool old, moved, replaced;
    const char* says;  // null: it goes well
  };
  for (const Case& c : {Case{0, true, true, false, nullptr}, Case{0, true, true, true, "another file took this name"},
                        Case{6, true, true, true, "was moved or replaced"}, Case{20, true, true, true, "moved.mp4"},
                        Case{20, false, true, false, "moved.mp4"}, Case{20, false, false, true, "was removed"}}) {
    SCOPED_TRACE(std::to_string(c.at_frame) + (c.says ? c.says : ""));
    std::filesystem::remove(path("moved.mp4"));
    std::filesystem::remove(path("a.mp4"));
    if (c.old) write("a.mp4", "an older video");
    auto claim = OutputClaim::acquire({"--save_file", path("a.mp4")});
    ASSERT_TRUE(claim.ok());
    std::unique_ptr<VideoWriter> writer;
    Status status;
    for (int64_t f = 0; f < 40 && status.ok(); ++f) {
      if (f == c.at_frame) {
        c.moved ? std::filesystem::rename(path("a.mp4"), path("moved.mp4"))
                : (void)std::filesystem::remove(path("a.mp4"));
        if (c.replaced) write("a.mp4", "somebody's");
      }
      if (writer == nullptr) {
        auto opened = VideoWriter::open(*claim, small(), nullptr);
        status = opened.status();
        if (opened.ok()) writer = std::move(*opened);
      }
      if (status.ok()) status = writer->write_frame(frame_of(f).data());
    }
    if (status.ok()) status = writer->finish();
    EXPECT_EQ(status.ok(), c.says == nullptr) << status.message();
    if (c.says != nullptr) {
      EXPECT_NE(status.message().find(c.says), std::string::npos) << status.message();
    }
    if (c.replaced) {
      EXPECT_EQ(slurp(path("a.mp4")), "somebody's");
    }
    if (c.at_frame == 20 && c.moved) {
      EXPECT_EQ(contents_of(path("moved.mp4")).video_frames, 40);
    }
    if (c.at_frame < 12) {
      EXPECT_EQ(slurp(path("moved.mp4")), "an older video");
    }
    if (c.says == nullptr) {
      EXPECT_EQ(contents_of(path("a.mp4")).video_frames, 40);
    }
  }
}

TEST_F(VideoTest, FullDiskSaysHowManyFramesAreSafe) {
  // A name with a proper ending that leads to the device that is always full.
  std::filesystem::create_symlink("/dev/full", path("full.mp4"));
  auto writer = VideoWriter::open(path("full.mp4"), small(), nullptr);
  Status status = writer.ok() ? Status() : writer.status();
  if (writer.ok()) {
    for (int64_t f = 0; f < 200 && status.ok(); ++f) status = (*writer)->write_frame(frame_of(f).data());
    if (status.ok()) status = (*writer)->finish();
  }
  EXPECT_EQ(status.code(), ErrorCode::kIo);
  EXPECT_NE(status.message().find("full.mp4"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("No space left"), std::string::npos) << status.message();
  EXPECT_NE(status.message().find("nothing of it is kept"), std::string::npos) << status.message();
}

TEST_F(VideoTest, AFullDiskKeepsTheFramesReportedSafe) {
  // The file size limit stands in for the disk: writes beyond 60 kB fail as on a full one. In a child, as the limit is
  // the process's.
  std::string file = path("a.mp4"), report = path("report");
  pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    rlimit limit{60000, 60000};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto writer = VideoWriter::open(file, small(), nullptr);
    std::vector<uint8_t> noise(kSide * kSide * 3);
    Status status;
    for (int64_t f = 0; f < 400 && status.ok(); ++f) {
      for (uint8_t& value : noise) value = uint8_t(rand());
      status = (*writer)->write_frame(noise.data());
    }
    std::ofstream(report) << int(status.code()) << ' ' << status.message();
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  std::string said = slurp(report);
  EXPECT_EQ(std::stoi(said), int(ErrorCode::kIo)) << said;
  size_t at = said.find("the first ");
  ASSERT_NE(at, std::string::npos) << said;
  EXPECT_GE(contents_of(file).video_frames, std::stoi(said.substr(at + 10))) << said;
}

TEST_F(VideoTest, RefusesPathsItCannotWrite) {
  struct Case {
    std::string file;
    ErrorCode code;
  };
  std::filesystem::create_directory(path("folder.mp4"));
  for (const Case& c : {Case{path("a.avi"), ErrorCode::kInvalidArgument},
                        {path("a"), ErrorCode::kInvalidArgument},
                        {"", ErrorCode::kInvalidArgument},
                        {path("nowhere/a.mp4"), ErrorCode::kIo},
                        {path("folder.mp4"), ErrorCode::kIo}}) {
    auto writer = VideoWriter::open(c.file, small(), nullptr);
    ASSERT_FALSE(writer.ok()) << c.file;
    EXPECT_EQ(writer.status().code(), c.code) << writer.status().message();
    EXPECT_EQ(writer.status().message().find('\n'), std::string::npos);
  }
}

TEST_F(VideoTest, AMissingEndOfTheVoiceBecomesSilence) {
  std::string whole = sine_wave({16000, 1, 16}, 32000, 300);
  ASSERT_TRUE(write_video(path("a.mp4"), 50, voice(write("v.wav", whole.substr(0, 20000)))).ok());
  Contents contents = contents_of(path("a.mp4"));
  EXPECT_NEAR(contents.audio_end, 2.0, 0.04);
}

TEST_F(VideoTest, AcceptsAVideoWithoutFrames) {
  Status status = write_video(path("a.mp4"), 0, voice(write("v.wav", sine_wave({16000, 1, 16}, 32000, 300))));
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(VideoTest, ContactSheetShowsFramesInOrder) {
  ASSERT_TRUE(write_video(path("a.mp4"), 90, nullptr).ok());
  Status status = write_contact_sheet(path("a.mp4"), path("a.png"), 4, 2);
  ASSERT_TRUE(status.ok()) << status.message();
  auto sheet = read_image(path("a.png"), false);
  ASSERT_TRUE(sheet.ok());
  EXPECT_EQ(sheet->width, 4 * kSide + 3 * 2);
  EXPECT_EQ(sheet->height, 2 * kSide + 2);
  auto at = [&](int64_t y, int64_t x) { return int(sheet->rgb[size_t((y * sheet->width + x) * 3)]); };
  int last = 0;
  for (int i = 0; i < 8; ++i) {
    int value = at(i / 4 * (kSide + 2) + 30, i % 4 * (kSide + 2) + 30);
    EXPECT_GT(value, last);
    last = value;
  }
  EXPECT_EQ(at(30, kSide), 255);
  EXPECT_EQ(write_contact_sheet(path("missing.mp4"), path("a.png"), 4, 2).code(), ErrorCode::kNotFound);
}

TEST_F(VideoTest, ContactSheetOfAVideoShorterThanTheSheet) {
  ASSERT_TRUE(write_video(path("a.mp4"), 3, nullptr).ok());
  EXPECT_TRUE(write_contact_sheet(path("a.mp4"), path("a.png"), 4, 2).ok());
}

}  // namespace
}  // namespace liveavatar
