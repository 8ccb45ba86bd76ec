// Voices in: what decodes, what is refused, and that nothing grows with the length.
#include "media/audio.h"

#include <sys/resource.h>

#include <limits>

#include "fixture.h"
#include "support/read_mono.h"

namespace liveavatar {
namespace {

class AudioTest : public MediaTest {};

std::string float_wave(const std::vector<float>& samples) {
  std::string data(samples.size() * 4, '\0');
  std::memcpy(data.data(), samples.data(), data.size());
  return wave_header({16000, 1, 32, true}, data.size()) + data;
}

TEST_F(AudioTest, ReadsSamplesExactly) {
  std::string data = little(0x8000, 2) + little(0, 2) + little(16384, 2) + little(0x7fff, 2);
  std::string file = write("a.wav", wave_header({16000, 1, 16}, data.size()) + data);
  auto mono = read_mono(file, 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(*mono, (std::vector<float>{-1.0f, 0.0f, 0.5f, 32767.0f / 32768.0f}));
}

TEST_F(AudioTest, Reads24BitSamplesExactly) {
  std::string data = little(0x800000, 3) + little(0x400000, 3) + little(1, 3);
  std::string file = write("a.wav", wave_header({16000, 1, 24}, data.size()) + data + std::string(1, '\0'));
  auto mono = read_mono(file, 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(*mono, (std::vector<float>{-1.0f, 0.5f, 1.0f / 8388608.0f}));
}

TEST_F(AudioTest, RefusesSamplesThatAreNotFiniteOrTooLarge) {
  const float inf = std::numeric_limits<float>::infinity();
  for (float bad : {std::nanf(""), inf, -inf, 1e38f, -1e38f, 101.0f}) {
    const std::string file = write("a.wav", float_wave({0.25f, bad, -0.5f}));
    auto mono = read_mono(file, 16000);
    ASSERT_FALSE(mono.ok()) << bad;
    EXPECT_TRUE(mono.status().message().starts_with(file + ": ")) << mono.status().message();
    EXPECT_TRUE(mono.status().message().ends_with("; export the audio again, as 16-bit WAV"));
  }
  auto loud = read_mono(write("a.wav", float_wave({0.25f, 99.0f, -2.0f})), 16000);
  ASSERT_TRUE(loud.ok()) << loud.status().message();
  EXPECT_EQ(*loud, (std::vector<float>{0.25f, 99.0f, -2.0f}));
}

TEST_F(AudioTest, AveragesChannels) {
  std::string data;
  for (int i = 0; i < 10; ++i) data += little(16384, 2) + little(uint16_t(-8192), 2);
  auto mono = read_mono(write("a.wav", wave_header({16000, 2, 16}, data.size()) + data), 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(*mono, std::vector<float>(10, 0.125f));
}

struct RateCase {
  int rate_hz, channels;
  int64_t frames;
};

TEST_F(AudioTest, LengthIsRoundedUpAtEveryRate) {
  for (RateCase c : {RateCase{8000, 1, 1},
                     {8000, 1, 8001},
                     {11025, 1, 30000},
                     {22050, 2, 22051},
                     {44100, 2, 44101},
                     {48000, 12, 48001},
                     {96000, 1, 96005},
                     {192000, 1, 192001}}) {
    SCOPED_TRACE(std::to_string(c.rate_hz) + " Hz, " + std::to_string(c.channels) + " channels, " +
                 std::to_string(c.frames));
    auto mono = read_mono(write("a.wav", sine_wave({c.rate_hz, c.channels, 16}, c.frames, 440)), 16000);
    ASSERT_TRUE(mono.ok()) << mono.status().message();
    EXPECT_EQ(int64_t(mono->size()), (c.frames * 16000 + c.rate_hz - 1) / c.rate_hz);
    double worst = 0;
    for (size_t i = 400; i + 400 < mono->size(); ++i) {
      worst = std::max(worst, std::fabs((*mono)[i] - 16000 / 32768.0 * std::sin(2 * M_PI * 440 * double(i) / 16000)));
    }
    EXPECT_LT(worst, 1e-3);  // away from the ends it is the same sine: no shift, no change of loudness
  }
}

TEST_F(AudioTest, PiecesAndRewindGiveTheSameSamples) {
  std::string file = write("a.wav", sine_wave({44100, 2, 16}, 30011, 700));
  auto whole = read_mono(file, 16000);
  auto mono = open_mono(file, 16000);
  ASSERT_TRUE(whole.ok() && mono.ok());
  for (int64_t piece : {1000, 7, 4096}) {
    std::vector<float> all, chunk(static_cast<size_t>(piece));
    while (true) {
      auto got = (*mono)->read(chunk.data(), piece);
      ASSERT_TRUE(got.ok());
      if (*got == 0) break;
      all.insert(all.end(), chunk.begin(), chunk.begin() + *got);
    }
    EXPECT_EQ(all, *whole);
    EXPECT_EQ(*(*mono)->read(chunk.data(), piece), 0);  // the end stays the end
    ASSERT_TRUE((*mono)->rewind().ok());
  }
}

TEST_F(AudioTest, RefusesFilesWithoutAudio) {
  std::string silent_wave = wave_header({16000, 1, 16}, 0);
  struct Case {
    std::string file;
    ErrorCode code;
  };
  std::filesystem::create_directory(path("folder.wav"));
  for (const Case& c : {Case{path("missing.wav"), ErrorCode::kNotFound},
                        {write("empty.wav", ""), ErrorCode::kCorrupt},
                        {write("text.wav", "this is a letter, not a voice\n"), ErrorCode::kCorrupt},
                        {path("folder.wav"), ErrorCode::kCorrupt},
                        {write("none.wav", silent_wave), ErrorCode::kCorrupt},
                        {write("noise.wav", std::string(5000, '\xa7')), ErrorCode::kCorrupt},
                        {write("half_header.wav", silent_wave.substr(0, 30)), ErrorCode::kCorrupt},
                        {std::string(LA_SOURCE_DIR) + "/tests/goldens/image/c_rgba.png", ErrorCode::kCorrupt}}) {
    auto audio = open_audio(c.file);
    ASSERT_FALSE(audio.ok()) << c.file;
    EXPECT_EQ(audio.status().code(), c.code) << audio.status().message();
    EXPECT_NE(audio.status().message().find(c.file), std::string::npos) << audio.status().message();
    EXPECT_EQ(audio.status().message().find('\n'), std::string::npos);
  }
}

TEST_F(AudioTest, ATruncatedFileEndsAtItsLastSample) {
  std::string whole = sine_wave({16000, 1, 16}, 16000, 300);
  auto mono = read_mono(write("cut.wav", whole.substr(0, 44 + 2 * 5000)), 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(mono->size(), 5000u);
}

TEST_F(AudioTest, EightHoursOfAudioAreStreamed) {
  // A sparse file of 8-bit silence. Read to the end it would be 8 h of floats, 922 MB at 8 kHz, 1.8 GB at 16 kHz.
  uint64_t bytes = 8ull * 3600 * 8000;
  std::string file = write("long.wav", wave_header({8000, 1, 8}, bytes));
  std::filesystem::resize_file(file, 44 + bytes);
  auto mono = open_mono(file, 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  std::vector<float> chunk(16000);
  auto read_seconds = [&](int64_t seconds) {
    int64_t total = 0;
    while (total < seconds * 16000) {
      auto got = (*mono)->read(chunk.data(), 16000);
      if (!got.ok() || *got == 0) break;
      total += *got;
    }
    return total;
  };
  auto peak_kib = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  ASSERT_GE(read_seconds(10), 160000);
  long before = peak_kib();
  ASSERT_GE(read_seconds(3600), 3600 * 16000);
#ifdef __SANITIZE_ADDRESS__
  (void)before;  // freed memory stays in AddressSanitizer's quarantine: only the reading is checked
#else
  EXPECT_LT(peak_kib() - before, 8 * 1024);  // an hour would be 230 MB
#endif
}

// WAV extensible with a channel mask (0: none); `loud` is the channel that has the sine.
std::string masked_wave(int channels, uint32_t mask, int loud, int rate_hz = 16000, int64_t frames = 1000) {
  std::string data;
  for (int64_t i = 0; i < frames; ++i) {
    auto value = static_cast<int16_t>(std::lround(16000 * std::sin(2 * M_PI * 440 * double(i) / rate_hz)));
    for (int c = 0; c < channels; ++c) data += little(uint16_t(c == loud || loud < 0 ? value : 0), 2);
  }
  std::string guid("\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 16);
  std::string format = little(0xfffe, 2) + little(uint64_t(channels), 2) + little(uint64_t(rate_hz), 4) +
                       little(uint64_t(rate_hz * channels * 2), 4) + little(uint64_t(channels * 2), 2) + little(16, 2) +
                       little(22, 2) + little(16, 2) + little(mask, 4) + guid;
  return "RIFF" + little(data.size() + format.size() + 20, 4) + "WAVEfmt " + little(format.size(), 4) + format +
         "data" + little(data.size(), 4) + data;
}

float peak(const std::vector<float>& samples) {
  float most = 0;
  for (float s : samples) most = std::max(most, std::fabs(s));
  return most;
}

std::vector<float> all_of(AudioStream& audio) {
  std::vector<float> all, chunk(4096);
  while (true) {
    auto got = audio.read(chunk.data(), 4096 / audio.channels());
    EXPECT_TRUE(got.ok());
    if (!got.ok() || *got == 0) return all;
    all.insert(all.end(), chunk.begin(), chunk.begin() + *got * audio.channels());
  }
}

struct LayoutCase {
  int channels;
  uint32_t mask;
};

// In every layout every channel is heard, in the model's mono and in the track; the centre as loud as it is.
TEST_F(AudioTest, MixesEveryChannelOfEveryLayout) {
  constexpr float kPeak = 16000 / 32768.0f;
  for (LayoutCase c : {LayoutCase{1, 0x4}, {2, 0x3},     {2, 0x30}, {3, 0x7},   {3, 0x103}, {4, 0x33},
                       {4, 0x107},         {5, 0x607},   {6, 0x3f}, {6, 0x60f}, {7, 0x70f}, {8, 0x63f},
                       {8, 0xff},          {5, 0},       {6, 0},    {8, 0},     {10, 0},    {12, 0},
                       {3, 0x4004},        {12, 0x2d63f}}) {
    for (int loud = 0; loud < c.channels; ++loud) {
      SCOPED_TRACE(std::to_string(c.channels) + " channels, mask " + std::to_string(c.mask) + ", " +
                   std::to_string(loud));
      std::string file = write("l.wav", masked_wave(c.channels, c.mask, loud));
      auto mono = read_mono(file, 16000);
      ASSERT_TRUE(mono.ok()) << mono.status().message();
      EXPECT_GE(peak(*mono), kPeak / float(std::max(4, c.channels)) * 0.99f);
      auto audio = open_audio(file);
      ASSERT_TRUE(audio.ok());
      EXPECT_LE((*audio)->channels(), 2);
      EXPECT_GE(peak(all_of(**audio)), kPeak / float(std::max(2, c.channels)) * 0.99f);
    }
  }
}

TEST_F(AudioTest, KeepsTheLevelOfTheCentreChannel) {
  auto source = read_mono(case_file("v1.wav"), 22050);
  auto audio = open_audio(case_file("lrc.wav"));
  ASSERT_TRUE(source.ok() && audio.ok());
  EXPECT_NEAR(peak(all_of(**audio)), peak(*source), 0.01);
  auto mono = read_mono(case_file("lrc.wav"), 22050);
  ASSERT_TRUE(mono.ok());
  ASSERT_EQ(mono->size(), source->size());
  for (size_t i = 0; i < mono->size(); ++i) ASSERT_NEAR((*mono)[i], (*source)[i], 1e-4) << i;
}

TEST_F(AudioTest, AMixOfLoudChannelsDoesNotClip) {
  auto audio = open_audio(write("l.wav", masked_wave(6, 0x3f, -1)));
  ASSERT_TRUE(audio.ok());
  float most = peak(all_of(**audio));
  EXPECT_LE(most, 1.0f);
  EXPECT_GT(most, 0.4f);
}

// An encoder of FFmpeg's, frames of a sine at a rate; raw packets one behind the other.
std::string encoded_sine(AVCodecID id, AVSampleFormat format, int rate_hz, int channels, int64_t frames) {
  const AVCodec* codec = avcodec_find_encoder(id);
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(codec));
  Owned<AVFrame> frame(av_frame_alloc());
  Owned<AVPacket> packet(av_packet_alloc());
  encoder->sample_fmt = format;
  encoder->sample_rate = rate_hz;
  encoder->bit_rate = 64000;
  encoder->time_base = {1, rate_hz};
  encoder->log_level_offset = kQuiet;
  av_channel_layout_default(&encoder->ch_layout, channels);
  EXPECT_EQ(avcodec_open2(encoder.get(), codec, nullptr), 0);
  std::string bytes;
  auto drain = [&] {
    while (avcodec_receive_packet(encoder.get(), packet.get()) == 0)
      bytes.append(reinterpret_cast<char*>(packet->data), size_t(packet->size));
  };
  for (int64_t at = 0; at < frames; at += encoder->frame_size) {
    av_frame_unref(frame.get());
    frame->nb_samples = encoder->frame_size;
    frame->format = format;
    frame->sample_rate = rate_hz;
    frame->pts = at;
    av_channel_layout_copy(&frame->ch_layout, &encoder->ch_layout);
    EXPECT_EQ(av_frame_get_buffer(frame.get(), 0), 0);
    for (int i = 0; i < frame->nb_samples; ++i) {
      double value = 0.4 * std::sin(2 * M_PI * 440 * double(at + i) / rate_hz);
      for (int c = 0; c < channels; ++c)
        reinterpret_cast<int16_t*>(frame->data[0])[i * channels + c] = int16_t(value * 32767);
    }
    EXPECT_EQ(avcodec_send_frame(encoder.get(), frame.get()), 0);
    drain();
  }
  avcodec_send_frame(encoder.get(), nullptr);
  drain();
  return bytes;
}

TEST_F(AudioTest, ResamplesWhenRateOrLayoutChangesInTheFile) {
  auto piece = [](int rate_hz, int channels) {
    return encoded_sine(AV_CODEC_ID_MP2, AV_SAMPLE_FMT_S16, rate_hz, channels, 2 * rate_hz);
  };
  struct Piece {
    int rate_hz, channels;
  };
  for (auto [first, second] :
       {std::pair<Piece, Piece>{{44100, 2}, {32000, 1}}, {{32000, 1}, {48000, 2}}, {{44100, 1}, {44100, 2}}}) {
    SCOPED_TRACE(std::to_string(first.rate_hz) + " " + std::to_string(second.rate_hz));
    std::string file =
        write("joined.mp2", piece(first.rate_hz, first.channels) + piece(second.rate_hz, second.channels) +
                                piece(first.rate_hz, first.channels));
    auto mono = read_mono(file, 16000);
    ASSERT_TRUE(mono.ok()) << mono.status().message();
    EXPECT_NEAR(double(mono->size()), 6 * 16000, 16000 * 0.3);
    // 440 Hz everywhere, so the rate was kept in each piece: count zero crossings in the middle of each.
    for (double from : {0.5, 2.5, 4.5}) {
      int crossings = 0;
      for (size_t i = size_t(from * 16000); i < size_t((from + 1) * 16000); ++i)
        crossings += (*mono)[i] < 0 && (*mono)[i + 1] >= 0 ? 1 : 0;
      EXPECT_NEAR(crossings, 440, 3) << from;
    }
    EXPECT_TRUE(audio_seconds(file).ok());
  }
}

std::string stereo_wave(double right, double delay_s = 0) {
  std::string data;
  for (int i = 0; i < 32000; ++i) {
    double left = i < delay_s * 16000 ? 0 : 12000 * std::sin(i * 0.17) * (1 + std::sin(i * 0.001));
    data += little(uint16_t(int16_t(left / 2)), 2) + little(uint16_t(int16_t(left / 2 * right)), 2);
  }
  return wave_header({16000, 2, 16}, data.size()) + data;
}

TEST_F(AudioTest, AntiphaseChannelsGiveTheLouderOne) {
  struct Case {
    double right, delay_s;
    const char* said;
  };
  for (Case c : {Case{-1, 0, "left"},
                 {-0.9, 0, "left"},
                 {-1.1, 0, "right"},
                 {-1, 1.5, "left"},
                 {1, 0, ""},
                 {0, 0, ""},
                 {0.5, 0, ""}}) {
    SCOPED_TRACE(c.right);
    std::string file = write("s.wav", stereo_wave(c.right, c.delay_s));
    auto mono = open_mono(file, 16000);
    ASSERT_TRUE(mono.ok()) << mono.status().message();
    std::string note = (*mono)->note();
    EXPECT_EQ(note.empty(), std::string(c.said).empty()) << note;
    EXPECT_NE(note.find(c.said), std::string::npos) << note;
    auto samples = read_mono(file, 16000);
    EXPECT_GT(peak(*samples), 0.15f);
  }
  auto voice = read_mono(case_file("v1.wav"), 16000), cancelled = read_mono(case_file("antiphase.wav"), 16000);
  ASSERT_TRUE(voice.ok() && cancelled.ok());
  EXPECT_EQ(*voice, *cancelled);
}

TEST_F(AudioTest, ReadsTheFileWithExactlyThatName) {
  std::string wave = sine_wave({16000, 1, 16}, 1600, 300);
  for (const char* name : {"50%d.wav", "a:b.wav", "file:x.wav", "-v.wav", "[a]?.wav", "voice.png", "voice%03d.jpg"}) {
    auto mono = read_mono(write(name, wave), 16000);
    ASSERT_TRUE(mono.ok()) << mono.status().message();
    EXPECT_EQ(mono->size(), 1600u);
  }
}

}  // namespace
}  // namespace liveavatar
