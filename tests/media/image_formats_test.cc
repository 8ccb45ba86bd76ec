// Images of every kind: the named file, whole, upright, in its own colours.
#include <algorithm>

#include "fixture.h"
#include "media/image.h"
#include "media/image_header.h"
#include "media/video_writer.h"

namespace liveavatar {
namespace {

class ImageFormatsTest : public MediaTest {};

std::string big(uint64_t value, int size) {
  std::string bytes = little(value, size);
  return {bytes.rbegin(), bytes.rend()};
}

// Grey in the corners: top left, top right, bottom left, bottom right; as ImageTest's.
std::vector<int> corners(const Image& image) {
  auto at = [&image](int64_t y, int64_t x) { return (image.rgb[size_t((y * image.width + x) * 3)] + 5) / 10 * 10; };
  return {at(4, 4), at(4, image.width - 5), at(image.height - 5, 4), at(image.height - 5, image.width - 5)};
}

const std::vector<std::vector<int>> kCorners = {{220, 80, 160, 20}, {80, 220, 20, 160}, {20, 160, 80, 220},
                                                {160, 20, 220, 80}, {220, 160, 80, 20}, {160, 220, 20, 80},
                                                {20, 80, 160, 220}, {80, 20, 220, 160}};

// 64 x 32: left half bright, right half dark, top a little brighter.
Image marked() {
  Image image{32, 64, {}};
  for (int y = 0; y < 32; ++y) {
    for (int x = 0; x < 64; ++x) image.rgb.insert(image.rgb.end(), 3, uint8_t((x < 32 ? 160 : 20) + (y < 16 ? 60 : 0)));
  }
  return image;
}

uint32_t crc32(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (unsigned char byte : bytes) {
    crc ^= byte;
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

std::string chunk(const std::string& name, const std::string& body) {
  return big(body.size(), 4) + name + body + big(crc32(name + body), 4);
}

// A TIFF file of one strip; with no pixels, an EXIF block.
std::string tiff(int orientation, const Image& image) {
  auto entry = [](int tag, int type, uint64_t value) {
    return little(uint64_t(tag), 2) + little(uint64_t(type), 2) + little(1, 4) + little(value, 4);
  };
  uint64_t behind = 8 + 2 + 9 * 12 + 4;
  return std::string("II*\0", 4) + little(8, 4) + little(9, 2) + entry(256, 4, uint64_t(image.width)) +
         entry(257, 4, uint64_t(image.height)) + entry(258, 3, 8) + entry(259, 3, 1) + entry(262, 3, 2) +
         entry(273, 4, behind) + entry(274, 3, uint64_t(orientation)) + entry(277, 3, 3) +
         entry(279, 4, image.rgb.size()) + little(0, 4) + std::string(image.rgb.begin(), image.rgb.end());
}

void expect_orientations(const std::function<std::string(int)>& file_of, int64_t slack) {
  for (int o = 1; o <= 8; ++o) {
    SCOPED_TRACE(o);
    std::string file = file_of(o);
    auto image = read_image(file, true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    auto info = probe_image(file, true, kWholeImage);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(image->width, o < 5 ? 64 : 32);
    EXPECT_EQ(info->width, image->width);
    EXPECT_EQ(info->height, image->height);
    std::vector<int> found = corners(*image);
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(found[c], kCorners[size_t(o) - 1][c], slack) << c;
    auto raw = read_image(file, false);
    ASSERT_TRUE(raw.ok());
    found = corners(*raw);
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(found[c], kCorners[0][c], slack) << c;
  }
}

TEST_F(ImageFormatsTest, PngIsTurnedUpright) {
  ASSERT_TRUE(write_png(path("a.png"), marked()).ok());
  std::string png = slurp(path("a.png"));
  for (bool before : {true, false}) {  // the pixels
    size_t at = before ? 8 + 25 : png.size() - 12;
    auto file_of = [&](int o) {
      return write("o.png", png.substr(0, at) + chunk("eXIf", tiff(o, Image{})) + png.substr(at));
    };
    expect_orientations(file_of, 0);
  }
}

TEST_F(ImageFormatsTest, TiffIsTurnedUpright) {
  expect_orientations([&](int o) { return write("o.tif", tiff(o, marked())); }, 0);
}

// The case file is turned by irot 1 and imir 1; both are patched. libheif mirrors after it turns.
TEST_F(ImageFormatsTest, AvifIsTurnedUpright) {
  std::string avif = slurp(case_file("turned.avif"));
  size_t irot = avif.find("irot") + 4, imir = avif.find("imir") + 4;
  ASSERT_LT(imir, avif.size());
  struct Turn {
    int orientation, quarters, axis;
  };
  for (Turn t : {Turn{2, 0, 1}, {4, 0, 0}, {2, 2, 0}, {4, 2, 1}, {5, 1, 0}, {7, 1, 1}, {7, 3, 0}, {5, 3, 1}}) {
    SCOPED_TRACE(std::to_string(t.quarters) + " " + std::to_string(t.axis));
    avif[irot] = char(t.quarters);
    avif[imir] = char(t.axis);
    auto image = read_image(write("o.avif", avif), true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    std::vector<int> found = corners(*image);
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(found[c], kCorners[size_t(t.orientation) - 1][c], 10) << c;
    auto raw = read_image(path("o.avif"), false);
    ASSERT_TRUE(raw.ok());
    EXPECT_EQ(raw->width, 64);
  }
}

// A phone's video as the portrait: its first frame, turned by the track's matrix.
TEST_F(ImageFormatsTest, VideoIsTurnedUpright) {
  Image frame = marked();
  Image large{64, 128, std::vector<uint8_t>(64 * 128 * 3)};  // as marked(), twice the size
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 128; ++x)
      std::copy_n(&frame.rgb[size_t((y / 2 * 64 + x / 2) * 3)], 3, &large.rgb[size_t((y * 128 + x) * 3)]);
  }
  auto writer = VideoWriter::open(path("a.mp4"), {.width = 128, .height = 64}, nullptr);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->write_frame(large.rgb.data()).ok());
  ASSERT_TRUE((*writer)->finish().ok());
  std::string video = slurp(path("a.mp4"));
  size_t matrix = video.rfind("tkhd") + 4 + 40;
  constexpr int kTurns[8][4] = {{1, 0, 0, 1}, {-1, 0, 0, 1}, {-1, 0, 0, -1}, {1, 0, 0, -1},
                                {0, 1, 1, 0}, {0, 1, -1, 0}, {0, -1, -1, 0}, {0, -1, 1, 0}};
  for (int o = 1; o <= 8; ++o) {
    SCOPED_TRACE(o);
    const int* t = kTurns[o - 1];
    std::string turned = video;
    for (size_t i = 0; i < 4; ++i) turned.replace(matrix + (i / 2) * 12 + i % 2 * 4, 4, big(uint32_t(t[i] * 65536), 4));
    std::string file = write("o.mp4", turned);
    auto image = read_image(file, true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    EXPECT_EQ(image->width, o < 5 ? 128 : 64);
    EXPECT_EQ(probe_image(file, true, kWholeImage)->width, image->width);
    std::vector<int> found = corners(*image);
    for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(found[c], kCorners[size_t(o) - 1][c], 10) << c;
  }
}

TEST_F(ImageFormatsTest, TurnsTheCaseFilesUpright) {
  auto jpeg = read_image(case_file("orient6.jpg"), true);
  ASSERT_TRUE(jpeg.ok());
  for (const char* name : {"orient6.png", "orient6.tif"}) {
    auto image = read_image(case_file(name), true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    ASSERT_EQ(image->width, 192);
    double sum = 0;
    for (size_t i = 0; i < image->rgb.size(); ++i) sum += std::abs(int(image->rgb[i]) - int(jpeg->rgb[i]));
    EXPECT_LT(sum / double(image->rgb.size()), 2.5) << name;  // JPEG's own loss
  }
}

TEST_F(ImageFormatsTest, ReadsTheFileWithExactlyThatName) {
  Image image = marked();
  std::filesystem::create_directories(path("my%20documents"));
  std::filesystem::create_directories(path("50%d"));
  Image other{8, 8, std::vector<uint8_t>(8 * 8 * 3, 255)};
  ASSERT_TRUE(write_png(path("me1.png"), other).ok());
  ASSERT_TRUE(write_png(path("mea.png"), other).ok());
  for (const char* name : {"50%discount.png",
                           "me%d.png",
                           "me%03d.png",
                           "my%20documents/a.png",
                           "50%d/me.png",
                           "me[a].png",
                           "me?.png",
                           "me*.png",
                           "{a,b}.png",
                           "a:b.png",
                           "file:a.png",
                           "http:a.png",
                           "-a.png",
                           "%%.png",
                           "concat:a|b.png",
                           "a b.png",
                           "me%d",
                           "$HOME.png",
                           "bild.gif",
                           "sound.wav",
                           "a.%d"}) {
    ASSERT_TRUE(write_png(path(name), image).ok()) << name;
    auto read = read_image(path(name), true);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->rgb, image.rgb) << name;
  }
  auto discount = read_image(case_file("50%discount.png"), true), base = read_image(case_file("base.png"), true);
  ASSERT_TRUE(discount.ok() && base.ok());
  EXPECT_EQ(discount->rgb, base->rgb);
  auto me = read_image(case_file("pct/me%d.png"), true);
  ASSERT_TRUE(me.ok());
  EXPECT_EQ(me->rgb, base->rgb);
  EXPECT_EQ(read_image(path("me%02d.png"), true).status().code(), ErrorCode::kNotFound);
}

// A list of other files is not what was named.
TEST_F(ImageFormatsTest, RefusesPlaylists) {
  ASSERT_TRUE(write_png(path("a.png"), marked()).ok());
  EXPECT_FALSE(read_image(write("list.png", "ffconcat version 1.0\nfile a.png\n"), true).ok());
  EXPECT_FALSE(read_image(write("list.m3u8", "#EXTM3U\n#EXTINF:1,\na.png\n#EXT-X-ENDLIST\n"), true).ok());
}

// Encodes `image` with a codec of FFmpeg as a file of its own.
std::string encoded(AVCodecID id, AVPixelFormat format, const Image& image) {
  const AVCodec* codec = avcodec_find_encoder(id);
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  encoder->width = frame->width = int(image.width);
  encoder->height = frame->height = int(image.height);
  encoder->pix_fmt = format;
  frame->format = format;
  encoder->time_base = {1, 25};
  EXPECT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
  EXPECT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
  Owned<SwsContext> scaler(sws_getContext(frame->width, frame->height, AV_PIX_FMT_RGB24, frame->width, frame->height,
                                          format, SWS_BICUBIC, nullptr, nullptr, nullptr));
  const uint8_t* source[4] = {image.rgb.data()};
  int stride[4] = {frame->width * 3};
  sws_scale(scaler.get(), source, stride, 0, frame->height, frame->data, frame->linesize);
  EXPECT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
  avcodec_send_frame(encoder.get(), nullptr);
  EXPECT_EQ(avcodec_receive_packet(encoder.get(), packet.get()), 0);
  return {reinterpret_cast<char*>(packet->data), size_t(packet->size)};
}

Image noise(int64_t height, int64_t width) {
  Image image{height, width, std::vector<uint8_t>(size_t(height * width * 3))};
  uint32_t state = 1;
  for (uint8_t& value : image.rgb) value = uint8_t((state = state * 1664525u + 1013904223u) >> 24);
  return image;
}

TEST_F(ImageFormatsTest, RefusesTruncatedImages) {
  Image image = noise(48, 64);
  ASSERT_TRUE(write_png(path("a.png"), image).ok());
  std::vector<std::pair<std::string, std::string>> files = {
      {"jpg", encoded(AV_CODEC_ID_MJPEG, AV_PIX_FMT_YUVJ420P, image)},
      {"png", slurp(path("a.png"))},
      {"bmp", encoded(AV_CODEC_ID_BMP, AV_PIX_FMT_BGR24, image)},
      {"tif", encoded(AV_CODEC_ID_TIFF, AV_PIX_FMT_RGB24, image)},
      {"tga", encoded(AV_CODEC_ID_TARGA, AV_PIX_FMT_BGR24, image)},
      {"ppm", encoded(AV_CODEC_ID_PPM, AV_PIX_FMT_RGB24, image)},
      {"avif", slurp(case_file("bt709.avif"))},
      {"heic", slurp(case_file("iphone.heic"))},
      {"webp", slurp(case_file("anim.webp"))}};
  for (const auto& [ending, bytes] : files) {
    auto whole = read_image(write("whole." + ending, bytes), true);
    ASSERT_TRUE(whole.ok()) << whole.status().message();
    for (size_t part = 1; part < 40; ++part) {
      auto cut = read_image(write("cut." + ending, bytes.substr(0, bytes.size() * part / 40)), true);
      ASSERT_FALSE(cut.ok()) << ending << " " << part;
      EXPECT_EQ(cut.status().message().find('\n'), std::string::npos);
      EXPECT_NE(cut.status().message().find("cut." + ending), std::string::npos);
    }
  }
  auto cut = read_image(case_file("cut.jpg"), true);
  ASSERT_FALSE(cut.ok());
  EXPECT_NE(cut.status().message().find("cut off"), std::string::npos) << cut.status().message();
}

// The name of an image and something else inside.
TEST_F(ImageFormatsTest, RefusesFilesThatOnlyHaveAnImagesExtension) {
  for (const char* name : {"text.png", "text.jpg", "text.tga", "text.heic", "text.tif", "text.webp"}) {
    for (const std::string& text : {std::string("this is no picture\n"), std::string(5000, 'x'), std::string("GIF89a"),
                                    std::string("BM") + std::string(40, '\0'), std::string("RIFF\0\0\0\0WEBP", 12)}) {
      auto image = read_image(write(name, text), true);
      ASSERT_FALSE(image.ok()) << name << " " << text.substr(0, 20);
      EXPECT_NE(image.status().message().find(name), std::string::npos) << image.status().message();
      EXPECT_FALSE(probe_image(path(name), true, kWholeImage).ok());
    }
  }
}

// Bytes changed in the middle: whatever is said, it is said; and a check sum that fails is an error.
TEST_F(ImageFormatsTest, RefusesADamagedPng) {
  ASSERT_TRUE(write_png(path("a.png"), noise(48, 64)).ok());
  std::string png = slurp(path("a.png"));
  for (size_t at = 60; at + 20 < png.size(); at += 97) {
    std::string damaged = png;
    damaged[at] = char(damaged[at] ^ 0x10);
    EXPECT_FALSE(read_image(write("b.png", damaged), true).ok()) << at;
  }
}

double mean_distance(const Image& a, const Image& b) {
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(int(a.rgb[i]) - int(b.rgb[i]));
  return sum / double(a.rgb.size());
}

TEST_F(ImageFormatsTest, HeicAndAvifInTheirOwnColours) {
  auto base = read_image(case_file("base.png"), true);
  ASSERT_TRUE(base.ok());
  for (const char* name : {"bt709.avif", "iphone.heic"}) {
    auto image = read_image(case_file(name), true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    ASSERT_EQ(image->rgb.size(), base->rgb.size());
    EXPECT_LT(mean_distance(*image, *base), 1.5) << name;
  }
}

// Frames whose tags say matrix and range: Y, U, V of pure red in each.
TEST_F(ImageFormatsTest, ObeysTheTaggedMatrixAndRange) {
  struct Tag {
    AVColorSpace matrix;
    AVColorRange range;
    double red, blue;  // the matrix's Kr and Kb
  };
  for (Tag t : {Tag{AVCOL_SPC_BT709, AVCOL_RANGE_MPEG, 0.2126, 0.0722},
                {AVCOL_SPC_BT709, AVCOL_RANGE_JPEG, 0.2126, 0.0722},
                {AVCOL_SPC_BT2020_NCL, AVCOL_RANGE_MPEG, 0.2627, 0.0593},
                {AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG, 0.299, 0.114},
                {AVCOL_SPC_UNSPECIFIED, AVCOL_RANGE_MPEG, 0.299, 0.114}}) {
    bool full = t.range == AVCOL_RANGE_JPEG;
    const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
    Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
    Owned<AVFrame> frame(av_frame_alloc());
    Owned<AVPacket> packet(av_packet_alloc());
    encoder->width = frame->width = encoder->height = frame->height = 64;
    encoder->pix_fmt = AV_PIX_FMT_YUV444P;
    frame->format = AV_PIX_FMT_YUV444P;
    encoder->time_base = {1, 25};
    encoder->colorspace = t.matrix;
    encoder->color_range = t.range;
    encoder->log_level_offset = kQuiet;
    ASSERT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
    ASSERT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
    double y = t.red, u = -t.red / (2 * (1 - t.blue)), v = 0.5;
    double values[3] = {full ? 255 * y : 16 + 219 * y, full ? 128 + 255 * u : 128 + 224 * u,
                        full ? 128 + 127 * v * 2 : 128 + 224 * v};
    for (int p = 0; p < 3; ++p)
      std::memset(frame->data[p], int(std::lround(values[p])), size_t(frame->linesize[p] * 64));
    ASSERT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
    avcodec_send_frame(encoder.get(), nullptr);
    ASSERT_EQ(avcodec_receive_packet(encoder.get(), packet.get()), 0);
    auto image = read_image(write("red.h264", {reinterpret_cast<char*>(packet->data), size_t(packet->size)}), true);
    ASSERT_TRUE(image.ok()) << image.status().message();
    EXPECT_NEAR(image->rgb[0], 255, 3) << t.matrix << full;
    EXPECT_NEAR(image->rgb[1], 0, 3) << t.matrix << full;
    EXPECT_NEAR(image->rgb[2], 0, 3) << t.matrix << full;
  }
}

TEST_F(ImageFormatsTest, AnimatedWebpGivesItsFirstFrame) {
  auto image = read_image(case_file("anim.webp"), true);
  ASSERT_TRUE(image.ok()) << image.status().message();
  EXPECT_EQ(image->width, 64);
  std::vector<int> found = corners(*image);
  for (size_t c = 0; c < 4; ++c) EXPECT_NEAR(found[c], kCorners[0][c], 10);
}

TEST_F(ImageFormatsTest, NamesThePixelLimit) {
  auto image = read_image(case_file("mono20000.png"), true);
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.status().code(), ErrorCode::kUnsupported);
  EXPECT_NE(image.status().message().find("20000x20000"), std::string::npos);
  EXPECT_NE(image.status().message().find("268 megapixels"), std::string::npos);
  // 25000 x 40: long, but small.
  ASSERT_TRUE(write_png(path("long.png"), Image{40, 25000, std::vector<uint8_t>(25000 * 40 * 3, 7)}).ok());
  EXPECT_TRUE(read_image(path("long.png"), true).ok());
}

TEST_F(ImageFormatsTest, ALargeJpegIsDecodedReduced) {
  Image large{3000, 6000, std::vector<uint8_t>(size_t{3000} * 6000 * 3, 130)};
  std::string file = write("large.jpg", encoded(AV_CODEC_ID_MJPEG, AV_PIX_FMT_YUVJ420P, large));
  auto whole = probe_image(file, true, kWholeImage), reduced = probe_image(file, true, 128 * 128);
  ASSERT_TRUE(whole.ok() && reduced.ok());
  EXPECT_EQ(whole->reduction, 0);
  EXPECT_EQ(reduced->reduction, 1);
  EXPECT_EQ(reduced->width, 6000);
  EXPECT_LT(reduced->decode_bytes, whole->decode_bytes / 2);
  auto image = read_image(file, true, 128 * 128);
  ASSERT_TRUE(image.ok()) << image.status().message();
  EXPECT_EQ(image->width, 3000);
  EXPECT_EQ(image->height, 1500);
  EXPECT_NEAR(image->rgb[12345], 130, 2);
}

}  // namespace
}  // namespace liveavatar
