// Notes on sounds that hold less than their files say.
#include "media/shortfall.h"

#include "fixture.h"

namespace liveavatar {
namespace {

using ShortfallTest = MediaTest;

TEST_F(ShortfallTest, AWholeSoundHasNoNote) {
  const std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  EXPECT_EQ(shortfall_note(write("voice.wav", bytes), 9.938), "");
  EXPECT_EQ(shortfall_note(path("none.wav"), 1), "");
}

TEST_F(ShortfallTest, ACutOrDamagedSoundIsSaid) {
  const std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  const std::string cut = shortfall_note(write("cut.wav", bytes.substr(0, 200000)), 4.5);
  EXPECT_NE(cut.find("cut.wav: the file was cut off, 4.5 s of it are left"), std::string::npos) << cut;
  // The decoder gave up before the end that the file states.
  const std::string damaged = shortfall_note(write("voice.wav", bytes), 6);
  EXPECT_NE(damaged.find("6.0 of 9.9 s could be read"), std::string::npos) << damaged;
}

// A writer that could not seek back leaves the largest size, or none.
TEST_F(ShortfallTest, AStreamedWaveStatesNothing) {
  std::string bytes = slurp(std::string(LA_SOURCE_DIR) + "/assets/demo/voice.wav");
  bytes.replace(4, 4, "\xff\xff\xff\xff");
  EXPECT_EQ(shortfall_note(write("stream.wav", bytes), 9.938), "");
}

}  // namespace
}  // namespace liveavatar
