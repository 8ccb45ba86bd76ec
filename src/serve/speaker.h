// Speaks texts in a live session, one after the other, on a thread of its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>

#include "voice/voice.h"

namespace liveavatar::serve {

// Any thread. The thread begins with the first text.
class Speaker {
 public:
  // What the session does with sound. Not called with a lock of the speaker.
  struct Calls {
    // -> the number of the speech that it belongs to. kOutOfMemory: it has no room now; it is tried again.
    std::function<Expected<int64_t>(std::span<const int16_t> samples, const std::stop_token& stop)> push;
    std::function<void(const std::stop_token& stop)> end_speech;
  };
  struct Text {
    SpokenText text;  // empty: only ends the speech
    bool ends_speech = true;
    std::stop_token dropped;  // it is not spoken any more
    // On the speaker's thread: after each piece of sound, and when all of it was pushed or why not. What is dropped
    // before it begins has no call.
    std::function<void(int64_t speech, int64_t samples)> on_sound;
    std::function<void(const Status&)> on_end;
  };
  Speaker(std::shared_ptr<Synthesizer> voice, int sample_rate, Calls calls);
  ~Speaker() { end(); }

  // kCancelled: it has ended. kOutOfMemory: no thread.
  Status say(Text text);
  // Drops what is spoken and what waits. Does not wait; nothing of it is pushed where this was called with the
  // session's lock, with which push() asks for the stop.
  void cancel();
  // For good: cancels, and waits for the thread.
  void end();
  bool is_busy() const;
  size_t waiting() const;

 private:
  void run();
  void take(const Text& text, const std::stop_token& stop);
  Status speak(const Text& text, const std::stop_token& stop);
  bool push(std::span<const int16_t> samples, const Text& text, const std::stop_token& stop, Status& pushed);

  const std::shared_ptr<Synthesizer> voice_;
  const int sample_rate_;
  const Calls calls_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Text> texts_;
  std::stop_source stop_;  // of the text that is spoken and those that wait
  bool speaks_ = false, ended_ = false;
  std::thread thread_;
};

}  // namespace liveavatar::serve
