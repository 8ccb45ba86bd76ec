// Mixed voices, mask images of every kind, pose videos at 25 frames a second.
#include <gtest/gtest.h>

#include <algorithm>

#include "fixture.h"
#include "media/fit.h"
#include "media/mask_image.h"
#include "media/pose_video.h"
#include "media/video_writer.h"
#include "media/voice_mix.h"

namespace liveavatar {
namespace {

const std::string kPose = std::string(LA_SOURCE_DIR) + "/tests/goldens/pose/";

class SpeakersMediaTest : public MediaTest {
 protected:
  std::string square(const std::string& name, WaveFormat format, int64_t frames, int16_t value) const {
    std::string data;
    for (int64_t i = 0; i < frames * format.channels; ++i) data += little(static_cast<uint16_t>(value), 2);
    return write(name, wave_header(format, data.size()) + data);
  }
};

std::vector<float> all_of(AudioStream& audio) {
  std::vector<float> all, chunk(static_cast<size_t>(1000 * audio.channels()));
  while (int64_t got = *audio.read(chunk.data(), 1000))
    all.insert(all.end(), chunk.begin(), chunk.begin() + got * audio.channels());
  return all;
}

TEST_F(SpeakersMediaTest, AMixIsTheSumAsLongAsTheLongest) {
  std::string a = square("a.wav", {}, 8000, 8192), b = square("b.wav", {}, 12345, -4096);
  auto mix = open_mix({a, b}, MixRule::kFull);
  ASSERT_TRUE(mix.ok()) << mix.status().message();
  std::vector<float> sum = all_of(**mix);
  ASSERT_EQ(sum.size(), 12345u);
  EXPECT_EQ(sum[100], 0.125f);
  EXPECT_EQ(sum[12000], -0.125f);
  ASSERT_TRUE((*mix)->rewind().ok());
  EXPECT_EQ(all_of(**mix), sum);
  auto original = open_mix({a, b}, MixRule::kOriginal);
  std::vector<float> mean = all_of(**original);
  EXPECT_EQ(mean.size(), 8000u);
  EXPECT_EQ(mean[100], 0.0625f);
}

TEST_F(SpeakersMediaTest, AMixDoesNotClip) {
  std::string a = square("a.wav", {}, 3000, 30000), b = square("b.wav", {}, 5000, 30000);
  std::vector<float> sum = all_of(**open_mix({a, b}, MixRule::kFull));
  EXPECT_NEAR(sum[10], 1.0f, 1e-6f);
  EXPECT_NEAR(sum[4000], 0.5f, 1e-6f);
}

// 44.1 kHz stereo beside 16 kHz mono: nothing of the better one is lost, and lengths are exact.
TEST_F(SpeakersMediaTest, MixesDifferentRatesAndChannels) {
  std::string a = square("a.wav", {16000, 1}, 16000, 8192), b = square("b.wav", {44100, 2}, 44100, 8192);
  auto mix = open_mix({a, b}, MixRule::kFull);
  ASSERT_TRUE(mix.ok()) << mix.status().message();
  EXPECT_EQ((*mix)->sample_rate_hz(), 44100);
  EXPECT_EQ((*mix)->channels(), 2);
  EXPECT_EQ(all_of(**mix).size(), 2u * 44100);
  EXPECT_EQ((*open_mix({a, b}, MixRule::kOriginal))->channels(), 1);
  EXPECT_FALSE(open_mix({a, path("none.wav")}, MixRule::kFull).ok());
}

// What an actor's number is on 0 in 16 bits, as the original's masks are: far below a grey of 8 bits.
TEST_F(SpeakersMediaTest, MasksHoldEveryPixelThatIsNotBlack) {
  const std::string goldens = std::string(LA_SOURCE_DIR) + "/tests/goldens/";
  auto mask = read_mask(goldens + "generate_two/image/tracking_mask_results/1/annotated_frame_00000.png");
  ASSERT_TRUE(mask.ok()) << mask.status().message();
  EXPECT_GT(std::count(mask->set.begin(), mask->set.end(), 1), 100);
  Image image{2, 3, std::vector<uint8_t>(18, 0)};
  image.rgb[4] = 1;  // a green of 1
  ASSERT_TRUE(write_png(path("rgb.png"), image).ok());
  auto rgb = read_mask(path("rgb.png"));
  ASSERT_TRUE(rgb.ok());
  EXPECT_EQ(rgb->set, (std::vector<uint8_t>{0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(mask_size(path("rgb.png"))->width, 3);
  EXPECT_EQ(read_mask(path("none.png")).status().code(), ErrorCode::kNotFound);
  EXPECT_FALSE(read_mask(write("text.png", "not a picture")).ok());
}

// The disc of 13 pixels around (20, 30), and not the ringing of a grey JPEG beside it.
TEST_F(SpeakersMediaTest, AGreyJpegMaskIsCutAtHalfGrey) {
  auto mask = read_mask(std::string(LA_SOURCE_DIR) + "/tests/cases/grey_mask.jpg");
  ASSERT_TRUE(mask.ok()) << mask.status().message();
  int wrong = 0;
  for (int64_t y = 0; y < 64; ++y) {
    for (int64_t x = 0; x < 64; ++x) {
      int64_t square = (x - 20) * (x - 20) + (y - 30) * (y - 30);
      bool edge = square > 11 * 11 && square < 15 * 15, set = mask->set[size_t(y * 64 + x)] != 0;
      wrong += !edge && set != (square <= 13 * 13) ? 1 : 0;
    }
  }
  EXPECT_EQ(wrong, 0);
}

// As a portrait that is cut off is.
TEST_F(SpeakersMediaTest, RefusesATruncatedMask) {
  Image noise{64, 64, std::vector<uint8_t>(64 * 64 * 3)};
  for (size_t i = 0; i < noise.rgb.size(); ++i) noise.rgb[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
  ASSERT_TRUE(write_png(path("whole.png"), noise).ok());
  ASSERT_TRUE(read_mask(path("whole.png")).ok());
  std::string whole = slurp(path("whole.png"));
  auto cut = read_mask(write("cut.png", whole.substr(0, whole.size() / 2)));
  ASSERT_FALSE(cut.ok());
  EXPECT_NE(cut.status().message().find("cut off"), std::string::npos) << cut.status().message();
}

// A grey JPEG of 32 x 64 whose left half and top are brighter, with an EXIF orientation.
std::string oriented_jpeg(int orientation) {
  const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  encoder->width = frame->width = 64;
  encoder->height = frame->height = 32;
  encoder->pix_fmt = AV_PIX_FMT_YUVJ444P;
  frame->format = AV_PIX_FMT_YUVJ444P;
  encoder->time_base = {1, 25};
  EXPECT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
  EXPECT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
  for (int p = 0; p < 3; ++p) {
    for (int i = 0; i < 32 * 64; ++i) {
      int y = i / 64, x = i % 64, grey = (x < 32 ? 160 : 20) + (y < 16 ? 60 : 0);
      frame->data[p][y * frame->linesize[p] + x] = static_cast<uint8_t>(p > 0 ? 128 : grey);
    }
  }
  EXPECT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
  avcodec_send_frame(encoder.get(), nullptr);
  EXPECT_EQ(avcodec_receive_packet(encoder.get(), packet.get()), 0);
  std::string jpeg(reinterpret_cast<char*>(packet->data), size_t(packet->size));
  std::string exif = std::string("Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", 25);
  exif += std::string{static_cast<char>(orientation), 0, 0, 0, 0, 0, 0};
  return jpeg.substr(0, 2) + "\xff\xe1" + std::string{0, static_cast<char>(exif.size() + 2)} + exif + jpeg.substr(2);
}

// A mask of the stored image is rotated with the image.
TEST_F(SpeakersMediaTest, MasksFollowTheImageOrientation) {
  auto bright = [](const Image& image) {
    MaskImage mask{image.height, image.width, {}};
    for (size_t i = 0; i < image.rgb.size(); i += 3) mask.set.push_back(image.rgb[i] > 100);
    return mask;
  };
  for (int orientation = 1; orientation <= 8; ++orientation) {
    std::string file = write("o.jpg", oriented_jpeg(orientation));
    auto stored = read_image(file, false), upright = read_image(file, true);
    ASSERT_TRUE(stored.ok() && upright.ok());
    EXPECT_EQ(upright->orientation, orientation);
    EXPECT_EQ(orientation_between(*stored, *upright), orientation);
    MaskImage got = turned(bright(*stored), orientation), want = bright(*upright);
    EXPECT_EQ(got.height, want.height) << orientation;
    EXPECT_EQ(got.set, want.set) << orientation;
  }
}

// How many frames come out, and which of the file's they are.
std::vector<int64_t> indices(const std::string& file, FrameRule rule) {
  auto video = open_pose_video(file, rule);
  EXPECT_TRUE(video.ok()) << video.status().message();
  std::vector<int64_t> all;
  while (*(*video)->next() != nullptr) all.push_back((*video)->index());
  return all;
}

TEST_F(SpeakersMediaTest, PosesAreShownAt25FramesASecond) {
  EXPECT_EQ(indices(kPose + "pose25.mp4", FrameRule::kResampled).size(), 70u);
  struct Case {
    const char* file;
    double fps;
    int64_t frames;
  };
  for (const Case& c : {Case{"pose30.mp4", 30, 40}, Case{"pose50.mp4", 50, 110}, Case{"pose12.mp4", 12, 20},
                        Case{"pose24.mp4", 24, 20}, Case{"pose37_5.mp4", 37.5, 60}, Case{"pose120.mp4", 120, 60}}) {
    std::vector<int64_t> got = indices(kPose + c.file, FrameRule::kResampled), want;
    for (int64_t k = 0; double(k) / 25 + 1e-6 < double(c.frames) / c.fps; ++k)
      want.push_back(static_cast<int64_t>(double(k) / 25 * c.fps + 1e-4));
    EXPECT_EQ(got, want) << c.file;
  }
  EXPECT_EQ(indices(kPose + "pose50.mp4", FrameRule::kOriginal).size(), 55u);
}

TEST_F(SpeakersMediaTest, RefusesFilesThatAreNotPoseVideos) {
  EXPECT_EQ(open_pose_video(path("none.mp4"), FrameRule::kResampled).status().code(), ErrorCode::kNotFound);
  std::string sound = square("a.wav", {}, 8000, 8192);
  EXPECT_EQ(open_pose_video(sound, FrameRule::kResampled).status().code(), ErrorCode::kCorrupt);
  auto video = open_pose_video(kPose + "pose30.mp4", FrameRule::kResampled);
  ASSERT_TRUE(video.ok());
  EXPECT_EQ((*video)->info().height, 80);
  EXPECT_NEAR((*video)->info().seconds, 40.0 / 30, 0.01);
}

// An image of the frame's size passes unchanged; bars are grey, and a cover has none.
TEST_F(SpeakersMediaTest, FloatFitsOfAWhiteImageStayWhite) {
  Image image{2, 4, std::vector<uint8_t>(24, 255)};
  std::vector<float> scratch, out(3 * 4 * 4);
  fit_float(image, {2, 4}, Fit::kOriginal, scratch, out.data());
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 24), std::vector<float>(24, 1.0f));
  image.height = 1;
  image.rgb.resize(12);
  fit_float(image, {4, 4}, Fit::kCover, scratch, out.data());
  EXPECT_EQ(out, std::vector<float>(48, 1.0f));
  image.width = 1;
  image.height = 4;
  fit_float(image, {4, 4}, Fit::kOriginal, scratch, out.data());
  EXPECT_EQ(std::count(out.begin(), out.end(), 0.0f), 0);
}

}  // namespace
}  // namespace liveavatar
