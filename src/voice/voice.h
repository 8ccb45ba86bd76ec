// Text to speech: a sentence becomes sound, piece by piece. Two kinds: espeak-ng (espeak_voice.h) and any server that
// has OpenAI's POST /v1/audio/speech (speech_api.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>

#include "core/status.h"

namespace liveavatar {

// s16 mono. The rate is the same in all calls of one speak(). false: enough, and speak() is kCancelled. May wait.
using PcmSink = std::function<bool(std::span<const int16_t> samples, int rate_hz)>;

// The text has kMostSentenceBytes at most, UTF-8. voice: a name of that kind; empty: its default.
struct SpokenText {
  std::string text, voice;
};

constexpr size_t kMostSentenceBytes = 600;  // what SentenceCutter cuts
constexpr double kMostSentenceSeconds = 180;

// Any thread, several at once.
class Synthesizer {
 public:
  virtual ~Synthesizer() = default;
  // Returns when the sink has all of it, or soon after a stop: kCancelled. No lock is held while the sink waits.
  // kInvalidArgument: no such voice; kIo: the other server.
  virtual Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) = 0;
};

// Any text, sentence by sentence, at one rate. A sentence's sound goes to the sink before the next is spoken.
Status speak_all(Synthesizer& voice, const SpokenText& text, int rate_hz, const PcmSink& sink,
                 const std::stop_token& stop);

// kInvalidArgument: empty, more than that, not UTF-8, or with a NUL.
Status check_spoken(const std::string& text, size_t most_bytes);

}  // namespace liveavatar
