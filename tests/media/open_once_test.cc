// A file is opened once, whatever is asked about it: the kernel counts, and what was opened stays readable when its
// name is gone.
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <thread>

#include "fixture.h"
#include "media/audio_file.h"
#include "media/image_file.h"
#include "media/pose_video.h"
#include "media/shortfall.h"

namespace liveavatar {
namespace {

// Opens of one file since it was made.
class OpenCount {
 public:
  explicit OpenCount(const std::string& path) : fd_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    EXPECT_GE(inotify_add_watch(fd_, path.c_str(), IN_OPEN), 0) << path;
  }
  ~OpenCount() { close(fd_); }
  OpenCount(const OpenCount&) = delete;
  OpenCount& operator=(const OpenCount&) = delete;

  // inotify merges equal events side by side: call it after every question.
  int count() {
    alignas(inotify_event) char bytes[4096];
    while (true) {
      const ssize_t got = read(fd_, bytes, sizeof(bytes));
      if (got <= 0) return count_;
      for (ssize_t at = 0; at < got;) {
        inotify_event event{};
        std::memcpy(&event, bytes + at, sizeof(event));
        count_ += (event.mask & IN_OPEN) != 0 ? 1 : 0;
        at += static_cast<ssize_t>(sizeof(event) + event.len);
      }
    }
  }

 private:
  int fd_;
  int count_ = 0;
};

size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

std::vector<float> all_of(MonoSource& mono) {
  std::vector<float> all, chunk(4096);
  while (true) {
    auto got = mono.read(chunk.data(), 4096);
    EXPECT_TRUE(got.ok());
    if (!got.ok() || *got == 0) return all;
    all.insert(all.end(), chunk.begin(), chunk.begin() + *got);
  }
}

void expect_same(const Image& a, const Image& b) {
  EXPECT_EQ(a.height, b.height);
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.orientation, b.orientation);
  EXPECT_EQ(a.rgb, b.rgb);
}

class OpenOnceTest : public MediaTest {
 protected:
  // A copy whose name may go.
  std::string copy_of(const std::string& file) const {
    return write("copy" + std::filesystem::path(file).extension().string(), slurp(file));
  }
  // The name is gone, and another file has it.
  static void replace(const std::string& file) {
    ASSERT_EQ(unlink(file.c_str()), 0);
    std::ofstream(file) << "something else";
  }
};

// Uncompressed, bottom row first: a kind without a mark of its own, which FFmpeg knows by its ending.
std::string tga() {
  std::string head(18, '\0');
  head[2] = 2;
  head[12] = head[14] = 16;
  head[16] = 24;
  std::string pixels;
  for (int i = 0; i < 16 * 16 * 3; ++i) pixels.push_back(static_cast<char>(i));
  return head + pixels;
}

TEST_F(OpenOnceTest, ReadsImagesOfEveryFormat) {
  std::vector<std::string> files = {write("a.tga", tga())};
  for (const char* name : {"base.png", "orient6.png", "orient6.jpg", "orient6.tif", "anim.webp", "bt709.avif",
                           "turned.avif", "iphone.heic", "talk.mp4"})
    files.push_back(case_file(name));
  for (const std::string& file : files) {
    SCOPED_TRACE(file);
    const std::string copy = copy_of(file);
    OpenCount opens(copy);
    const size_t before = open_descriptors();
    {
      auto picture = ImageFile::open(copy);
      ASSERT_TRUE(picture.ok()) << picture.status().message();
      EXPECT_EQ(picture->path(), copy);
      EXPECT_EQ(open_descriptors(), before + 1);
      EXPECT_EQ(opens.count(), 1);
      replace(copy);
      const ImageFile moved = *std::move(picture);
      for (bool upright : {true, false, true}) {
        auto info = moved.probe(upright, 128 * 128);
        auto image = moved.read(upright, 128 * 128), expected = read_image(file, upright, 128 * 128);
        ASSERT_TRUE(info.ok() && image.ok() && expected.ok());
        expect_same(*image, *expected);
        EXPECT_EQ(info->width >> info->reduction, image->width);
        EXPECT_EQ(info->decode_bytes, probe_image(file, upright, 128 * 128)->decode_bytes);
      }
      EXPECT_EQ(open_descriptors(), before + 1);
      EXPECT_EQ(opens.count(), 1);
    }
    EXPECT_EQ(open_descriptors(), before);
  }
}

// A FLAC that was written as a stream does not say how long it is.
std::string streamed_flac(int64_t frames) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_FLAC);
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  encoder->sample_fmt = AV_SAMPLE_FMT_S16;
  encoder->sample_rate = 16000;
  encoder->time_base = {1, 16000};
  encoder->log_level_offset = kQuiet;
  av_channel_layout_default(&encoder->ch_layout, 1);
  EXPECT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
  std::string bytes = std::string("fLaC\x80\0\0\x22", 8) +
                      std::string(reinterpret_cast<char*>(encoder->extradata), size_t(encoder->extradata_size));
  for (int64_t at = 0; at < frames; at += frame->nb_samples) {
    av_frame_unref(frame.get());
    frame->nb_samples = int(std::min<int64_t>(encoder->frame_size, frames - at));
    frame->format = AV_SAMPLE_FMT_S16;
    frame->pts = at;
    av_channel_layout_copy(&frame->ch_layout, &encoder->ch_layout);
    EXPECT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
    for (int i = 0; i < frame->nb_samples; ++i)
      reinterpret_cast<int16_t*>(frame->data[0])[i] = int16_t((at + i) * 37 % 4096);
    EXPECT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
    while (avcodec_receive_packet(encoder.get(), packet.get()) == 0)
      bytes.append(reinterpret_cast<char*>(packet->data), size_t(packet->size));
  }
  return bytes;
}

TEST_F(OpenOnceTest, ReadsAudioOfEveryFormat) {
  const std::vector<std::string> files = {write("mono.wav", sine_wave({16000, 1, 16}, 16000, 440)),
                                          write("stereo.wav", sine_wave({44100, 2, 16}, 44100, 440)),
                                          write("streamed.flac", streamed_flac(24000)), case_file("antiphase.wav"),
                                          case_file("talk.mp4")};
  for (const std::string& file : files) {
    SCOPED_TRACE(file);
    auto expected_mono = open_mono(file, 16000);
    auto expected_seconds = audio_seconds(file);
    ASSERT_TRUE(expected_mono.ok() && expected_seconds.ok());
    const std::vector<float> expected = all_of(**expected_mono);
    const std::string expected_note = (*expected_mono)->note();
    expected_mono->reset();
    const std::string copy = copy_of(file);
    OpenCount opens(copy);
    const size_t before = open_descriptors();
    auto sound = AudioFile::open(copy);
    ASSERT_TRUE(sound.ok()) << sound.status().message();
    EXPECT_EQ((*sound)->path(), copy);
    EXPECT_EQ(opens.count(), 1);
    replace(copy);
    EXPECT_EQ((*sound)->seconds(), *expected_seconds);
    auto mono = (*sound)->mono(16000);
    ASSERT_TRUE(mono.ok()) << mono.status().message();
    EXPECT_EQ(all_of(**mono), expected);
    EXPECT_EQ((*mono)->note().empty(), expected_note.empty());
    ASSERT_TRUE((*mono)->rewind().ok());
    auto beside = (*sound)->mono(16000);
    ASSERT_TRUE(beside.ok()) << beside.status().message();
    EXPECT_EQ((*sound)->seconds(), *expected_seconds);
    EXPECT_EQ((*sound)->shortfall(double(expected.size()) / 16000), "");
    EXPECT_EQ(open_descriptors(), before + 1);
    EXPECT_EQ(opens.count(), 1);
    sound->reset();  // readers hold the file by themselves
    EXPECT_EQ(all_of(**beside), expected);
    EXPECT_EQ(all_of(**mono), expected);
    mono->reset();
    beside->reset();
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST_F(OpenOnceTest, AudioWithoutAStatedLengthIsReadToItsEnd) {
  auto sound = AudioFile::open(write("streamed.flac", streamed_flac(24000)));
  ASSERT_TRUE(sound.ok()) << sound.status().message();
  EXPECT_EQ((*sound)->seconds(), 1.5);
}

TEST_F(OpenOnceTest, ReportsTruncatedAudio) {
  const std::string bytes = sine_wave({16000, 1, 16}, 160000, 440);
  const std::string file = write("cut.wav", bytes.substr(0, 100000));
  const std::string expected = shortfall_note(file, 3.1);
  auto sound = AudioFile::open(file);
  ASSERT_TRUE(sound.ok()) << sound.status().message();
  replace(file);
  EXPECT_EQ((*sound)->shortfall(3.1), file + ": the file was cut off, 3.1 s of it are left; copy it again");
  EXPECT_EQ((*sound)->shortfall(3.1), expected);
}

// Two readers of one file on two threads, as the job and its video writer.
TEST_F(OpenOnceTest, ReadersDoNotDisturbEachOther) {
  auto sound = AudioFile::open(write("a.wav", sine_wave({44100, 2, 16}, 441000, 440)));
  ASSERT_TRUE(sound.ok());
  auto first = (*sound)->mono(16000), second = (*sound)->mono(16000);
  ASSERT_TRUE(first.ok() && second.ok());
  std::vector<float> one, other;
  std::thread beside([&] { other = all_of(**second); });
  one = all_of(**first);
  beside.join();
  EXPECT_EQ(one.size(), 160000u);
  EXPECT_EQ(one, other);
}

TEST_F(OpenOnceTest, APoseVideoReportsItsSize) {
  const std::string copy = copy_of(std::string(LA_SOURCE_DIR) + "/tests/goldens/pose/pose30.mp4");
  OpenCount opens(copy);
  auto video = open_pose_video(copy, FrameRule::kResampled);
  ASSERT_TRUE(video.ok()) << video.status().message();
  EXPECT_EQ(opens.count(), 1);
  replace(copy);
  EXPECT_EQ((*video)->info().height, 80);
  EXPECT_NEAR((*video)->info().seconds, 40.0 / 30, 0.01);
  auto frame = (*video)->next();
  ASSERT_TRUE(frame.ok() && *frame != nullptr);
  EXPECT_EQ((*frame)->height, (*video)->info().height);
  EXPECT_EQ((*frame)->width, (*video)->info().width);
  int frames = 1;
  while (*(*video)->next() != nullptr) ++frames;
  EXPECT_EQ(frames, 34);  // of 40 at 30 a second
  EXPECT_EQ(opens.count(), 1);
}

void expect_pipe_refused(const Status& status, const std::string& file) {
  EXPECT_EQ(status.code(), ErrorCode::kCorrupt);
  EXPECT_EQ(status.message(), file + ": a pipe, which is read more than once; save it as a file first");
}

// With no writer at its other end, with one that is silent, and through /proc as a shell's <(command).
TEST_F(OpenOnceTest, RefusesAPipeWithoutBlocking) {
  const std::string named = path("voice.wav");
  ASSERT_EQ(mkfifo(named.c_str(), 0600), 0);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  for (const std::string& file : {named, "/proc/self/fd/" + std::to_string(ends[0])}) {
    expect_pipe_refused(ImageFile::open(file).status(), file);
    expect_pipe_refused(AudioFile::open(file).status(), file);
    expect_pipe_refused(open_pose_video(file, FrameRule::kResampled).status(), file);
  }
  close(ends[0]);
  close(ends[1]);
}

// A file by way of /dev/stdin or a shell's redirection is a file.
TEST_F(OpenOnceTest, ReadsAFileByItsDescriptor) {
  const int fd = open(case_file("base.png").c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  auto picture = ImageFile::open("/proc/self/fd/" + std::to_string(fd));
  ASSERT_TRUE(picture.ok()) << picture.status().message();
  auto image = picture->read(true), expected = read_image(case_file("base.png"), true);
  close(fd);
  ASSERT_TRUE(image.ok() && expected.ok());
  expect_same(*image, *expected);
}

TEST_F(OpenOnceTest, RefusesFilesOfOtherKindsWhenOpened) {
  EXPECT_EQ(ImageFile::open(path("none.png")).status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(AudioFile::open(path("none.wav")).status().code(), ErrorCode::kNotFound);
  const std::string text = write("text.png", "this is no picture\n");
  EXPECT_EQ(ImageFile::open(text).status().code(), ErrorCode::kCorrupt);
  EXPECT_EQ(AudioFile::open(text).status().code(), ErrorCode::kCorrupt);
  const std::string empty = write("empty.png", "");
  EXPECT_EQ(ImageFile::open(empty).status().code(), ErrorCode::kCorrupt);
  EXPECT_EQ(AudioFile::open(empty).status().code(), ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace liveavatar
