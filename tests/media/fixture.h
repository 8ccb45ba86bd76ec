// Files made on the spot: waves, images, videos read back with FFmpeg.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "media/ffmpeg.h"
#include "media/ffmpeg_log.h"
#include "support/temp_dir.h"

namespace liveavatar {

// A folder of its own for every test, gone afterwards.
class MediaTest : public testing::Test {
 protected:
  void SetUp() override { silence_ffmpeg_log(); }
  std::string path(const std::string& name) const { return dir_.file(name); }

  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }

 public:
  static std::string slurp(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  TempDir dir_;
};

inline std::string case_file(const std::string& name) { return std::string(LA_SOURCE_DIR) + "/tests/cases/" + name; }

inline Expected<Input> open_input(const std::string& file, AVMediaType kind) {
  LA_ASSIGN_OR_RETURN(SharedFile opened, ReadFile::open(file, "a stream"));
  return Input::open(opened, kind, "a stream");
}

// A word of `size` bytes, lowest first.
inline std::string little(uint64_t value, int size) {
  std::string bytes;
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

struct WaveFormat {
  int rate_hz = 16000, channels = 1, bits = 16;
  bool is_float = false;
};

// A RIFF header that announces data_bytes.
inline std::string wave_header(WaveFormat f, uint64_t data_bytes) {
  int frame = f.channels * f.bits / 8;
  return "RIFF" + little(data_bytes + 36, 4) + "WAVEfmt " + little(16, 4) + little(f.is_float ? 3 : 1, 2) +
         little(uint64_t(f.channels), 2) + little(uint64_t(f.rate_hz), 4) + little(uint64_t(f.rate_hz * frame), 4) +
         little(uint64_t(frame), 2) + little(uint64_t(f.bits), 2) + "data" + little(data_bytes, 4);
}

// 16-bit sine, the same on every channel.
inline std::string sine_wave(WaveFormat f, int64_t frames, double hz) {
  std::string data;
  for (int64_t i = 0; i < frames; ++i) {
    auto value = static_cast<int16_t>(std::lround(16000 * std::sin(2 * M_PI * hz * double(i) / f.rate_hz)));
    for (int c = 0; c < f.channels; ++c) data += little(static_cast<uint16_t>(value), 2);
  }
  return wave_header(f, data.size()) + data;
}

}  // namespace liveavatar
