// WAV streams, resampling, and texts as sound.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "core/program_memory.h"
#include "core/utf8.h"
#include "http_client/client.h"
#include "voice/espeak_voice.h"
#include "voice/resampler.h"
#include "voice/voice.h"
#include "voice/wav_reader.h"

namespace liveavatar {
namespace {

using Sound = std::vector<int16_t>;

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

Expected<Sound> read(const std::string& bytes, size_t piece, int* rate_hz = nullptr) {
  WavReader reader;
  Sound all;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    LA_ASSIGN_OR_RETURN(const auto made, reader.push(std::string_view(bytes).substr(at, piece)));
    all.insert(all.end(), made.begin(), made.end());
  }
  if (rate_hz != nullptr) *rate_hz = reader.rate_hz();
  return all;
}

std::string head_of(uint16_t format, uint16_t channels, uint16_t bits, const std::string& before_data = {}) {
  std::string head = wav_head(22050, {});
  std::memcpy(head.data() + 20, &format, 2);
  std::memcpy(head.data() + 22, &channels, 2);
  std::memcpy(head.data() + 34, &bits, 2);
  return head.insert(36, before_data);
}

TEST(WavReader, GivesBackWhatWasWrittenWhereverItIsCut) {
  Sound sound;
  for (int i = 0; i < 500; ++i) sound.push_back(static_cast<int16_t>(i * 97));
  for (const auto& samples : {std::optional<uint32_t>(500), std::optional<uint32_t>()}) {
    const std::string bytes = wav_head(24000, samples) + bytes_of(sound);
    for (size_t piece : {1, 2, 3, 7, 44, 45, 4000}) {
      int rate_hz = 0;
      const auto heard = read(bytes, piece, &rate_hz);
      ASSERT_TRUE(heard.ok()) << heard.status().message();
      EXPECT_EQ(*heard, sound) << piece;
      EXPECT_EQ(rate_hz, 24000);
    }
  }
}

TEST(WavReader, MixesChannelsTakesFloatsAndSkipsOtherChunks) {
  const std::string list = std::string("LIST\x03\0\0\0abc\0", 12);
  EXPECT_EQ(*read(head_of(1, 2, 16, list) + bytes_of(Sound{100, 200, -5, -7}), 5), (Sound{150, -6}));
  const std::vector<float> floats{0.5f, -1.0f, 2.0f, -2.0f, std::nanf("")};
  EXPECT_EQ(*read(head_of(3, 1, 32) + bytes_of(floats), 3), (Sound{16384, -32768, 32767, -32768, 0}));
}

TEST(WavReader, ALengthThatAHeadCannotHoldIsNotTold) {
  EXPECT_EQ(wav_head(8000, uint64_t{1} << 31), wav_head(8000, {}));
  EXPECT_EQ(wav_head(8000, uint64_t{1} << 40), wav_head(8000, {}));
  EXPECT_NE(wav_head(8000, (uint64_t{1} << 31) - 100), wav_head(8000, {}));
}

TEST(WavReader, EndsWhereItsLengthSays) {
  EXPECT_EQ(*read(wav_head(8000, 2) + bytes_of(Sound{1, 2, 3, 4}), 3), (Sound{1, 2}));
}

TEST(WavReader, RefusesWhatIsNone) {
  const std::string mp3 = "ID3\x04" + std::string(200, '\0');
  std::string endless = wav_head(8000, {});
  endless.replace(36, 4, "LIST");
  for (const std::string& bytes :
       {mp3, std::string("{\"error\":\"no\"}"), head_of(1, 1, 24), head_of(1, 3, 16), head_of(85, 1, 16), endless})
    EXPECT_EQ(read(bytes, 16).status().code(), ErrorCode::kCorrupt);
  EXPECT_TRUE(read("RIFF", 1)->empty());
}

TEST(Resampler, KeepsPitchAndLengthWhereverItIsCut) {
  Sound sound;
  for (int i = 0; i < 22050; ++i) sound.push_back(static_cast<int16_t>(9000 * std::sin(i * 440 * 6.283185307 / 22050)));
  Sound whole;
  for (size_t piece : {22050, 441, 1}) {
    Resampler resampler(22050, 24000);
    Sound made;
    auto add = [&](std::span<const int16_t> more) { made.insert(made.end(), more.begin(), more.end()); };
    for (size_t at = 0; at < sound.size(); at += piece) add(resampler.push({sound.data() + at, piece}));
    add(resampler.finish());
    EXPECT_NEAR(double(made.size()), 24000, 2);
    if (whole.empty()) whole = made;
    EXPECT_EQ(made, whole) << piece;
  }
  int crossings = 0;
  for (size_t i = 1; i < whole.size(); ++i) crossings += whole[i - 1] < 0 && whole[i] >= 0 ? 1 : 0;
  EXPECT_NEAR(crossings, 440, 1);
}

TEST(Resampler, ChangesNothingWhereTheRatesAreTheSame) {
  Resampler resampler(16000, 16000);
  const Sound sound{1, 2, 3};
  const auto made = resampler.push(sound);
  EXPECT_EQ(Sound(made.begin(), made.end()), sound);
  EXPECT_TRUE(resampler.finish().empty());
}

TEST(Text, IsCutBetweenTwoCharacters) {
  const std::string text = "aé好b";
  const std::vector<size_t> whole{0, 1, 1, 3, 3, 3, 6, 7, 7};
  for (size_t most = 0; most < whole.size(); ++most) EXPECT_EQ(whole_characters(text, most), whole[most]) << most;
  EXPECT_EQ(whole_characters(std::string(20, '\x80'), 9), 9u);  // no UTF-8
}

TEST(Text, ThatCannotBeSpokenIsRefused) {
  EXPECT_TRUE(check_spoken("hello", 10).ok());
  EXPECT_TRUE(check_spoken("héllo 你好", 20).ok());
  for (const std::string& text :
       {std::string(), std::string("  ..."), std::string(11, 'x'), std::string("a\xff"), std::string("a\0b", 3)})
    EXPECT_EQ(check_spoken(text, 10).code(), ErrorCode::kInvalidArgument) << text;
}

// Says where it was stopped, and has a rate of its own.
class CountingSynthesizer final : public Synthesizer {
 public:
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override {
    texts.push_back(text.text);
    const Sound sound(1000, 5);
    for (int i = 0; i < 4; ++i)
      if (stop.stop_requested() || !sink(sound, 8000)) return cancelled("stopped");
    return {};
  }
  std::vector<std::string> texts;
};

TEST(Text, IsSpokenSentenceBySentenceAtOneRate) {
  CountingSynthesizer voice;
  size_t samples = 0;
  const PcmSink sink = [&](std::span<const int16_t> sound, int rate_hz) {
    EXPECT_EQ(rate_hz, 16000);
    samples += sound.size();
    return true;
  };
  ASSERT_TRUE(speak_all(voice, {"One. Two. ... Three", "x"}, 16000, sink, {}).ok());
  EXPECT_EQ(voice.texts, (std::vector<std::string>{"One.", "Two.", "... Three"}));
  EXPECT_NEAR(double(samples), 3 * 8000, 10);
}

TEST(Text, StopsWhenNobodyTakesItsSound) {
  CountingSynthesizer voice;
  std::stop_source stop;
  const PcmSink full = [&](std::span<const int16_t>, int) { return false; };
  EXPECT_EQ(speak_all(voice, {"One. Two.", ""}, 16000, full, {}).code(), ErrorCode::kCancelled);
  EXPECT_EQ(voice.texts.size(), 1u);
  stop.request_stop();
  EXPECT_EQ(speak_all(voice, {"One. Two.", ""}, 16000, full, stop.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_EQ(voice.texts.size(), 1u);
}

TEST(Url, IsCheckedCompletedAndShownWithoutSecrets) {
  using namespace http_client;
  for (const char* good : {"http://h", "https://a.b:1/v1/x?y=1", "http://[::1]:8/"}) EXPECT_TRUE(check_url(good).ok());
  for (const char* bad : {"", "h", "ftp://h", "http://", "http:///x", "file:///etc/passwd", "http://a b", "http://?x"})
    EXPECT_FALSE(check_url(bad).ok()) << bad;
  EXPECT_EQ(full_url("http://h:8", "/audio/speech"), "http://h:8/v1/audio/speech");
  EXPECT_EQ(full_url("http://h/v1/", "/audio/speech"), "http://h/v1/audio/speech");
  EXPECT_EQ(full_url("http://h/openai/v1", "/audio/speech"), "http://h/openai/v1/audio/speech");
  EXPECT_EQ(full_url("http://h/tts", "/audio/speech"), "http://h/tts");
  EXPECT_EQ(full_url("http://h/v1?key=1", "/audio/speech"), "http://h/v1?key=1");
  EXPECT_EQ(shown_url("https://user:pass@h:1/x?key=1"), "https://h:1/x");
  for (const char* secret : {"https://user:pa/ss@h:1/x", "https://user:pa?ss@h", "http://user:12#ss@h/x@y"}) {
    const std::string shown = shown_url(secret);
    EXPECT_TRUE(shown == "https://***" || shown == "http://***") << shown;
  }
  EXPECT_FALSE(check_url("https://user:pa/ss@h:1/x").ok());
  EXPECT_TRUE(check_url("https://user:pa%2Fss@h:1/x").ok());
}

TEST(Espeak, SpeaksOrSaysWhatToInstall) {
  const auto voice = open_espeak("");
  if (!voice.ok()) {
    EXPECT_EQ(voice.status().code(), ErrorCode::kUnsupported);
    EXPECT_NE(voice.status().message().find("install "), std::string::npos);
    return;
  }
  const size_t charged = loaded_library_bytes();
  EXPECT_GE(charged, size_t{6} << 20);
  EXPECT_TRUE(open_espeak("de").ok());
  EXPECT_EQ(loaded_library_bytes(), charged);  // it is loaded once
  size_t samples = 0;
  int loudest = 0;
  const PcmSink sink = [&](std::span<const int16_t> sound, int rate_hz) {
    EXPECT_EQ(rate_hz, 22050);
    samples += sound.size();
    for (const int16_t sample : sound) loudest = std::max(loudest, std::abs(int(sample)));
    return true;
  };
  ASSERT_TRUE((*voice)->speak({"Hello there.", ""}, sink, {}).ok());
  EXPECT_GT(samples, 22050u / 2);
  EXPECT_GT(loudest, 3000);
  for (const char* name : {"xx-nobody", "../../etc/passwd", "/etc/passwd"})
    EXPECT_EQ((*voice)->speak({"Hello.", name}, sink, {}).code(), ErrorCode::kInvalidArgument) << name;
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ((*voice)->speak({"Hello.", "de"}, sink, stop.get_token()).code(), ErrorCode::kCancelled);
  EXPECT_FALSE(open_espeak("xx-nobody").ok());
  std::string endless;
  for (int i = 0; i < 700; ++i) endless += "one hundred and ";
  const PcmSink none = [](std::span<const int16_t>, int) { return true; };
  EXPECT_EQ((*voice)->speak({endless, "en"}, none, {}).message(), "made more than 180 s of one sentence");
}

TEST(Espeak, SpeaksForSeveralAtOnceEachInItsLanguage) {
  const auto voice = open_espeak("en");
  if (!voice.ok()) GTEST_SKIP() << voice.status().message();
  auto spoken = [&](const char* name) {
    Sound all;
    const PcmSink sink = [&](std::span<const int16_t> sound, int) {
      all.insert(all.end(), sound.begin(), sound.end());
      return true;
    };
    EXPECT_TRUE((*voice)->speak({"Several speak at once.", name}, sink, {}).ok());
    return double(all.size());
  };
  const double english = spoken("en"), german = spoken("de");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round)
        EXPECT_NEAR(spoken(i % 2 == 0 ? "en" : "de"), i % 2 == 0 ? english : german, 500);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace liveavatar
