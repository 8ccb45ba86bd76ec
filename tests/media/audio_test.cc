// Voices in: what decodes, what is refused, and that nothing grows with the length.
#include "media/audio.h"

#include <sys/resource.h>

#include <limits>

#include "fixture.h"

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

TEST_F(AudioTest, NotANumberBecomesZero) {
  float inf = std::numeric_limits<float>::infinity();
  auto mono = read_mono(write("a.wav", float_wave({0.25f, std::nanf(""), inf, -inf, -0.5f})), 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(*mono, (std::vector<float>{0.25f, 0, 0, 0, -0.5f}));
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

TEST_F(AudioTest, RefusesWhatIsNoSound) {
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

TEST_F(AudioTest, ATailThatIsMissingEndsTheSound) {
  std::string whole = sine_wave({16000, 1, 16}, 16000, 300);
  auto mono = read_mono(write("cut.wav", whole.substr(0, 44 + 2 * 5000)), 16000);
  ASSERT_TRUE(mono.ok()) << mono.status().message();
  EXPECT_EQ(mono->size(), 5000u);
}

TEST_F(AudioTest, EightHoursTakeNoMemory) {
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

}  // namespace
}  // namespace liveavatar
