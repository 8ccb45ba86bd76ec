// Images in: every kind of file becomes RGB or one line of refusal; orientation; sizes.
#include "media/image.h"

#include <algorithm>

#include "fixture.h"

namespace liveavatar {
namespace {

class ImageTest : public MediaTest {};

Image gradient(int64_t height, int64_t width) {
  Image image{height, width, {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      image.rgb.insert(image.rgb.end(), {uint8_t(255 * x / std::max<int64_t>(1, width - 1)),
                                         uint8_t(255 * y / std::max<int64_t>(1, height - 1)), uint8_t((x + y) % 256)});
    }
  }
  return image;
}

// Encodes one frame with an encoder of FFmpeg; planes filled by `fill(plane, y, x_byte)`.
template <typename Fill>
std::string encode_still(AVCodecID id, AVPixelFormat format, int height, int width, Fill fill) {
  const AVCodec* codec = avcodec_find_encoder(id);
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
  encoder->width = width;
  encoder->height = height;
  encoder->pix_fmt = format;
  encoder->time_base = {1, 25};
  encoder->color_range = AVCOL_RANGE_JPEG;
  encoder->flags |= AV_CODEC_FLAG_QSCALE;
  encoder->global_quality = FF_QP2LAMBDA;
  EXPECT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
  Owned<AVFrame> frame(av_frame_alloc());
  frame->format = format;
  frame->width = width;
  frame->height = height;
  frame->quality = FF_QP2LAMBDA;
  EXPECT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
  for (int p = 0; p < 4 && frame->data[p]; ++p) {
    int rows = p > 0 && format == AV_PIX_FMT_YUVJ420P ? (height + 1) / 2 : height;
    if (format == AV_PIX_FMT_PAL8 && p == 1) rows = 1;
    int bytes = format == AV_PIX_FMT_PAL8 && p == 1 ? 1024 : frame->linesize[p];
    for (int y = 0; y < rows; ++y) {
      for (int x = 0; x < bytes; ++x) frame->data[p][y * frame->linesize[p] + x] = fill(p, y, x);
    }
  }
  Owned<AVPacket> packet(av_packet_alloc());
  EXPECT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
  avcodec_send_frame(encoder.get(), nullptr);
  EXPECT_EQ(avcodec_receive_packet(encoder.get(), packet.get()), 0);
  return {reinterpret_cast<char*>(packet->data), size_t(packet->size)};
}

// Left half bright, right half dark, top a little brighter: each orientation is told from the others.
std::string marked_jpeg() {
  return encode_still(AV_CODEC_ID_MJPEG, AV_PIX_FMT_YUVJ420P, 32, 64, [](int p, int y, int x) {
    return p > 0 ? 128 : uint8_t((x < 32 ? 160 : 20) + (y < 16 ? 60 : 0));
  });
}

// The APP1 segment with one tag, put behind the start marker.
std::string with_orientation(const std::string& jpeg, int value) {
  std::string tiff = std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01", 18);
  tiff += std::string{char(value >> 8), char(value), 0, 0, 0, 0, 0, 0};
  std::string body = std::string("Exif\0\0", 6) + tiff;
  size_t size = body.size() + 2;
  return jpeg.substr(0, 2) + "\xff\xe1" + std::string{char(size >> 8), char(size)} + body + jpeg.substr(2);
}

// Grey in the corners: top left, top right, bottom left, bottom right.
std::vector<int> corners(const Image& image) {
  auto at = [&image](int64_t y, int64_t x) { return (image.rgb[size_t((y * image.width + x) * 3)] + 5) / 10 * 10; };
  return {at(4, 4), at(4, image.width - 5), at(image.height - 5, 4), at(image.height - 5, image.width - 5)};
}

TEST_F(ImageTest, PngRoundTrip) {
  for (auto [height, width] : {std::pair<int, int>{1, 1}, {1, 300}, {300, 1}, {37, 53}, {64, 64}}) {
    Image image = gradient(height, width);
    ASSERT_TRUE(write_png(path("a.png"), image).ok());
    auto back = read_image(path("a.png"), true);
    ASSERT_TRUE(back.ok()) << back.status().message();
    EXPECT_EQ(back->height, height);
    EXPECT_EQ(back->width, width);
    EXPECT_EQ(back->rgb, image.rgb);
  }
}

TEST_F(ImageTest, AppliesAllEightOrientations) {
  const std::vector<std::vector<int>> want = {{220, 80, 160, 20}, {80, 220, 20, 160}, {20, 160, 80, 220},
                                              {160, 20, 220, 80}, {220, 160, 80, 20}, {160, 220, 20, 80},
                                              {20, 80, 160, 220}, {80, 20, 220, 160}};
  std::string jpeg = marked_jpeg();
  for (int o = 1; o <= 8; ++o) {
    SCOPED_TRACE(o);
    std::string file = write("o.jpg", with_orientation(jpeg, o));
    auto image = read_image(file, true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    EXPECT_EQ(image->width, o < 5 ? 64 : 32);
    EXPECT_EQ(corners(*image), want[size_t(o) - 1]);
    auto raw = read_image(file, false);
    ASSERT_TRUE(raw.ok());
    EXPECT_EQ(corners(*raw), want[0]);
  }
}

TEST_F(ImageTest, IgnoresInvalidOrientations) {
  std::string jpeg = marked_jpeg();
  for (int o : {0, 9, 255, 65535}) {
    auto image = read_image(write("o.jpg", with_orientation(jpeg, o)), true);
    ASSERT_TRUE(image.ok());
    EXPECT_EQ(corners(*image), (std::vector<int>{220, 80, 160, 20})) << o;
  }
}

TEST_F(ImageTest, SixteenBitPngKeepsTheHighByte) {
  for (AVPixelFormat format : {AV_PIX_FMT_RGB48BE, AV_PIX_FMT_GRAY16BE}) {
    int bytes = format == AV_PIX_FMT_RGB48BE ? 6 : 2;
    auto value = [bytes](int y, int x) {
      return x % 2 == 1 ? uint8_t(255) : uint8_t(bytes == 6 ? x * 5 + y : x * 4 + y);
    };
    auto image = read_image(
        write("a.png", encode_still(AV_CODEC_ID_PNG, format, 8, 7, [&](int, int y, int x) { return value(y, x); })),
        true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    for (int i = 0; i < 8 * 7 * 3; ++i) {
      int y = i / 21, x = i % 21 / 3, c = i % 3;
      ASSERT_EQ(image->rgb[size_t(i)], value(y, bytes == 6 ? x * 6 + c * 2 : x * 2)) << format << " " << i;
    }
  }
}

TEST_F(ImageTest, GreyAlphaAndPaletteBecomeRgb) {
  auto grey = read_image(write("a.png", encode_still(AV_CODEC_ID_PNG, AV_PIX_FMT_YA8, 2, 128,
                                                     [](int, int, int x) { return x % 2 ? 0 : x; })),
                         true);
  ASSERT_TRUE(grey.ok()) << grey.status().message();
  for (int i = 0; i < 128 * 3; ++i) EXPECT_EQ(grey->rgb[size_t(i)], i / 3 * 2);
  // A GIF: the palette holds (index, 255 - index, 7).
  auto fill = [](int p, int y, int x) -> uint8_t {
    if (p == 0) return uint8_t(16 * y + x);
    return x % 4 == 0 ? 7 : x % 4 == 1 ? uint8_t(255 - x / 4) : x % 4 == 2 ? uint8_t(x / 4) : 255;
  };
  auto palette = read_image(write("a.png", encode_still(AV_CODEC_ID_PNG, AV_PIX_FMT_PAL8, 16, 16, fill)), true);
  ASSERT_TRUE(palette.ok()) << palette.status().message();
  for (int i = 0; i < 256; ++i) {
    EXPECT_EQ(palette->rgb[size_t(i * 3)], i);
    EXPECT_EQ(palette->rgb[size_t(i * 3 + 1)], 255 - i);
    EXPECT_EQ(palette->rgb[size_t(i * 3 + 2)], 7);
  }
}

TEST_F(ImageTest, JpegColoursUseTheFullRange) {
  // Full-range BT.601: Y 76, Cb 85, Cr 255 is pure red.
  for (AVPixelFormat format : {AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ444P}) {
    auto image =
        read_image(write("a.jpg", encode_still(AV_CODEC_ID_MJPEG, format, 32, 32,
                                               [](int p, int, int) { return p == 0   ? 76
                                                                            : p == 1 ? 85
                                                                                     : 255; })),
                   true);
    ASSERT_TRUE(image.ok());
    EXPECT_NEAR(image->rgb[0], 254, 3);
    EXPECT_NEAR(image->rgb[1], 0, 3);
    EXPECT_NEAR(image->rgb[2], 0, 3);
    auto white = read_image(write("b.jpg", encode_still(AV_CODEC_ID_MJPEG, format, 32, 32,
                                                        [](int p, int, int) { return p == 0 ? 255 : 128; })),
                            true);
    ASSERT_TRUE(white.ok());
    EXPECT_GE(white->rgb[0], 254);
  }
}

TEST_F(ImageTest, RefusesFilesThatAreNotImages) {
  std::string jpeg = marked_jpeg();
  std::filesystem::create_directory(path("folder.png"));
  struct Case {
    std::string file;
    ErrorCode code;
  };
  for (const Case& c : {Case{path("missing.png"), ErrorCode::kNotFound},
                        {write("empty.png", ""), ErrorCode::kCorrupt},
                        {write("text.png", "a poem about a picture\n"), ErrorCode::kCorrupt},
                        {write("text.jpg", "no\n"), ErrorCode::kCorrupt},
                        {path("folder.png"), ErrorCode::kCorrupt},
                        {write("head.jpg", jpeg.substr(0, 40)), ErrorCode::kCorrupt}}) {
    auto image = read_image(c.file, true);
    ASSERT_FALSE(image.ok()) << c.file;
    EXPECT_EQ(image.status().code(), c.code) << image.status().message();
    EXPECT_NE(image.status().message().find(c.file), std::string::npos) << image.status().message();
    EXPECT_EQ(image.status().message().find('\n'), std::string::npos);
  }
}

int g_logged = 0;
void count_log(void*, int level, const char*, va_list) { g_logged += level <= AV_LOG_INFO ? 1 : 0; }

// The log is the process's: a program's own callback stays, and a damaged image logs nothing.
TEST_F(ImageTest, DoesNotChangeFfmpegsLogLevel) {
  av_log_set_callback(count_log);
  g_logged = 0;
  std::string jpeg = marked_jpeg();
  testing::internal::CaptureStderr();
  auto image = read_image(write("cut.jpg", jpeg.substr(0, jpeg.size() * 2 / 3)), true);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(image.ok());
  EXPECT_EQ(g_logged, 0);
  av_log(nullptr, AV_LOG_ERROR, "the program's own");
  EXPECT_EQ(g_logged, 1);
  av_log_set_callback(av_log_default_callback);
}

TEST_F(ImageTest, RefusesStripsAndAcceptsOnePixel) {
  EXPECT_FALSE(working_size(1, 5000, 688 * 368).ok());
  EXPECT_FALSE(working_size(5000, 1, 688 * 368).ok());
  auto size = working_size(1, 1, 688 * 368);
  ASSERT_TRUE(size.ok()) << size.status().message();
  Image fitted = fit_image(Image{1, 1, {9, 8, 7}}, *size, Fit::kOriginal);
  EXPECT_EQ(fitted.rgb.size(), size_t(size->width * size->height * 3));
  EXPECT_EQ(fitted.rgb[0], 9);
  EXPECT_EQ(fitted.rgb.back(), 7);
}

TEST_F(ImageTest, CoverLeavesNoBars) {
  Image image{480, 640, std::vector<uint8_t>(480 * 640 * 3, 200)};
  WorkingSize size{448, 640};
  Image bars = fit_image(image, size, Fit::kOriginal), cover = fit_image(image, size, Fit::kCover);
  EXPECT_EQ(std::count(bars.rgb.begin(), bars.rgb.end(), 0), 448 * 43 * 3);
  EXPECT_EQ(std::count(cover.rgb.begin(), cover.rgb.end(), 200), 448 * 640 * 3);
}

TEST_F(ImageTest, ParsesSizes) {
  EXPECT_EQ(*parse_size("688*368"), 688 * 368);
  EXPECT_EQ(*parse_size("688x368"), 688 * 368);
  for (const char* bad : {"", "688", "*", "688*", "a*b", "0*64", "-64*-64", "688*368*2", "1*1",
                          "99999999999999999999*1", "20000*20000", "64*64 "}) {
    EXPECT_FALSE(parse_size(bad).ok()) << bad;
  }
}

TEST_F(ImageTest, WritingPngIntoAMissingFolderIsAnError) {
  Status status = write_png(path("nowhere/a.png"), gradient(4, 4));
  EXPECT_EQ(status.code(), ErrorCode::kIo);
}

}  // namespace
}  // namespace liveavatar
