// webrtc_source SECONDS: a WebRTC peer without a model. Reads an offer from standard input and prints the answer; then
// writes frames that say their number, with a white bar and a beep once a second, and says what came back:
//   answer BYTES\n<sdp>   first MS (since 1970, when frame 0 was written)   connected   ended WHY
//   microphone SAMPLES LOUD (of them, those of a loud 20 ms)
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <thread>
#include <vector>

#include "serve/rtc/peer.h"

namespace {

using namespace liveavatar;
using namespace std::chrono_literals;
constexpr int64_t kWidth = 256, kHeight = 256, kFrames = 4;
constexpr int64_t kFrameSamples = rtc::kSampleRate / 25, kBeepSamples = rtc::kSampleRate / 12;

struct Heard {
  std::atomic<int64_t> samples = 0, loud = 0;
};

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// 16 squares of 64 x 64, the number's bits from the lowest on; the last row is the bar.
void draw(uint8_t* rgb, int64_t number) {
  for (int64_t y = 0; y < kHeight; ++y)
    for (int64_t x = 0; x < kWidth; ++x) {
      const int64_t square = y / 64 * 4 + x / 64;
      const bool is_white = square >= 12 ? number % 25 == 0 : (number >> square) % 2 == 1;
      for (int c = 0; c < 3; ++c) rgb[(y * kWidth + x) * 3 + c] = is_white ? 235 : 20;
    }
}

void sing(int16_t* samples, int64_t first) {
  constexpr double kStep = 2 * 3.141592653589793 * 1000 / rtc::kSampleRate;
  for (int64_t i = 0; i < kFrameSamples; ++i) {
    const int64_t at = (first + i) % rtc::kSampleRate;
    samples[i] = at < kBeepSamples ? static_cast<int16_t>(12000 * std::sin(kStep * double(at))) : int16_t{0};
  }
}

rtc::PeerCalls calls_of(Heard& heard) {
  rtc::PeerCalls calls;
  calls.on_connected = [] { say("connected"); };
  calls.on_end = [](const std::string& why) { say("ended " + why); };
  calls.on_microphone = [&heard](std::span<const int16_t> samples) {
    int loudest = 0;
    for (const int16_t sample : samples) loudest = std::max(loudest, std::abs(int(sample)));
    heard.samples += static_cast<int64_t>(samples.size());
    if (loudest > 3000) heard.loud += static_cast<int64_t>(samples.size());
  };
  return calls;
}

void send(rtc::Peer& peer, int64_t chunks) {
  std::vector<uint8_t> rgb(kFrames * kWidth * kHeight * 3);
  std::vector<int16_t> sound(kFrames * kFrameSamples);
  const auto begin = std::chrono::steady_clock::now();
  const auto wall =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  say("first " + std::to_string(wall.count()));
  for (int64_t k = 0; k < chunks; ++k) {
    for (int64_t i = 0; i < kFrames; ++i) {
      draw(rgb.data() + i * kWidth * kHeight * 3, k * kFrames + i);
      sing(sound.data() + i * kFrameSamples, (k * kFrames + i) * kFrameSamples);
    }
    std::this_thread::sleep_until(begin + k * 160ms);
    LiveChunk chunk;
    chunk.first_frame = k * kFrames;
    chunk.frames = kFrames;
    chunk.width = kWidth;
    chunk.height = kHeight;
    chunk.rgb = rgb.data();
    chunk.audio = sound.data();
    chunk.samples = kFrames * kFrameSamples;
    chunk.sample_rate = rtc::kSampleRate;
    peer.write(chunk);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t seconds = argc > 1 ? std::atoll(argv[1]) : 10;
  const std::string sdp{std::istreambuf_iterator<char>(std::cin), {}};
  rtc::PeerHost host;
  const auto maker = host.maker();
  if (!maker.ok()) {
    say(maker.status().message());
    return 77;
  }
  Heard heard;
  const auto peer =
      (*maker)->open({sdp, kWidth, kHeight}, {.ice_servers = {}, .address = "127.0.0.1"}, calls_of(heard));
  if (!peer.ok()) {
    say(peer.status().message());
    return 1;
  }
  say("answer " + std::to_string((*peer)->description().size()));
  std::fputs((*peer)->description().c_str(), stdout);
  std::fflush(stdout);
  send(**peer, seconds * 25 / kFrames);
  (*peer)->close();
  say("microphone " + std::to_string(heard.samples) + " " + std::to_string(heard.loud));
  return 0;
}
