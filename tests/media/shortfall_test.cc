// Notes on audio files that hold less than their files say.
#include "media/shortfall.h"

#include "fixture.h"

namespace liveavatar {
namespace {

using ShortfallTest = MediaTest;

TEST_F(ShortfallTest, CompleteAudioHasNoNote) {
  const std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  EXPECT_EQ(shortfall_note(write("voice.wav", bytes), 9.938), "");
  EXPECT_EQ(shortfall_note(path("none.wav"), 1), "");
}

TEST_F(ShortfallTest, NotesTruncatedAudio) {
  const std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  const std::string cut = shortfall_note(write("cut.wav", bytes.substr(0, 200000)), 4.5);
  EXPECT_NE(cut.find("cut.wav: the file was cut off, 4.5 s of it are left"), std::string::npos) << cut;
}

// The decoder gave up before the end that the file states.
TEST_F(ShortfallTest, NotesDamagedAudio) {
  auto big = [](uint32_t value) {
    std::string bytes = little(value, 4);
    return std::string(bytes.rbegin(), bytes.rend());
  };
  constexpr uint32_t kSeconds = 10, kRate = 16000, kPcm16 = 3;
  const uint32_t bytes = kSeconds * kRate * 2;
  const std::string head = ".snd" + big(24) + big(bytes) + big(kPcm16) + big(kRate) + big(1);
  const std::string file = write("voice.au", head + std::string(bytes, '\0'));
  EXPECT_EQ(shortfall_note(file, 10), "");
  const std::string note = shortfall_note(file, 6);
  EXPECT_NE(note.find("6.0 of 10.0 s could be read"), std::string::npos) << note;
}

// A writer that could not seek back leaves the largest size, or none.
TEST_F(ShortfallTest, AStreamedWaveHasNoNote) {
  std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  bytes.replace(4, 4, "\xff\xff\xff\xff");
  EXPECT_EQ(shortfall_note(write("stream.wav", bytes), 9.938), "");
}

}  // namespace
}  // namespace liveavatar
