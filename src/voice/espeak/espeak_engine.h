// espeak-ng behind the interface of a voice.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "voice/voice.h"

namespace liveavatar::espeak {

// One a process: the library has one state. A sentence is made as a whole, some 10 ms, before the sink gets it, so that
// a sink that waits keeps nobody else from speaking.
class EspeakEngine final : public Synthesizer {
 public:
  // kUnsupported: its data are missing.
  static Expected<std::shared_ptr<Synthesizer>> begin();
  Status speak(const SpokenText& text, const PcmSink& sink, const std::stop_token& stop) override;

 private:
  explicit EspeakEngine(int rate_hz) : rate_hz_(rate_hz) {}
  Status make(const SpokenText& text, std::vector<int16_t>& sound, const std::stop_token& stop);

  const int rate_hz_;
  std::timed_mutex mutex_;  // of all calls of the library
};

}  // namespace liveavatar::espeak
