// A voice and a session for tests of what speaks.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "serve/speaker.h"

namespace liveavatar::serve {

constexpr int kRate = 8000;

// 100 samples a byte of the text, with its first letter as their value.
class FakeSynthesizer final : public Synthesizer {
 public:
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override {
    if (text.text == "fail.") return io_error("answered 500");
    const std::vector<int16_t> sound(100, text.text[0]);
    for (size_t i = 0; i < text.text.size(); ++i)
      if (stop.stop_requested() || !sink(sound, kRate)) return cancelled("stopped");
    return {};
  }
};

// What a session has: a lock, room, and speeches.
struct FakeSession {
  std::mutex mutex;
  std::vector<std::string> speeches{""};
  std::atomic<int64_t> room = 1000000, calls = 0;

  Speaker::Calls sinks() {
    Speaker::Calls made;
    made.push = [this](std::span<const int16_t> samples, const std::stop_token& stop) -> Expected<int64_t> {
      std::lock_guard lock(mutex);
      ++calls;
      if (stop.stop_requested()) return cancelled("interrupted");
      if (std::ssize(samples) > room) return out_of_memory("full");
      room -= std::ssize(samples);
      const auto letter = static_cast<char>(samples[0]);
      if (speeches.back().empty() || speeches.back().back() != letter) speeches.back() += letter;
      return std::ssize(speeches) - 1;
    };
    made.end_speech = [this](const std::stop_token& stop) {
      std::lock_guard lock(mutex);
      if (!stop.stop_requested()) speeches.emplace_back();
    };
    return made;
  }
  // As LiveSocket does, and speech ends.
  void interrupt(Speaker& speaker) {
    std::lock_guard lock(mutex);
    speaker.cancel();
    if (!speeches.back().empty()) speeches.emplace_back();
  }
  std::vector<std::string> spoken() {
    std::lock_guard lock(mutex);
    return speeches;
  }
};

template <typename Condition>
bool wait_for(const Condition& condition) {
  for (int i = 0; i < 4000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return condition();
}

inline Speaker::Text text_of(const std::string& text, bool ends_speech = true) {
  return {{text, {}}, ends_speech, {}, {}, {}};
}

}  // namespace liveavatar::serve
