// POST /v1/audio/speech: texts of clients become sound.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "serve/http/message.h"
#include "voice/voice.h"

namespace liveavatar::serve {

constexpr int kSpeechRequestHz = 24000;  // OpenAI's

// The body of such a request.
struct SpeechRequest {
  SpokenText text;
  bool is_wav = true;  // else s16 mono without a head
};
Expected<SpeechRequest> parse_speech_request(const std::string& body);

class SpeechSound;

// Any thread. Two texts are spoken at a time; a few wait. A text is bounded, and so its sound, which waits in memory
// for a client that reads slowly.
class SpeechRequests {
 public:
  explicit SpeechRequests(std::shared_ptr<Synthesizer> voice);
  ~SpeechRequests() { end(); }
  // Replies when there is sound, or why there is none. A request whose client has gone gives its place back.
  void open(const http::Request& request, http::Reply reply);
  // Refuses what waits; what is spoken goes on.
  void drain();

 private:
  static constexpr int kThreads = 2, kMostOpen = 8;
  struct Work {
    SpeechRequest request;
    std::shared_ptr<SpeechSound> sound;
    http::Reply reply;
    std::stop_token gone;  // the client
  };
  void forget_gone();  // with the lock
  void end();
  void run();
  void speak(Work& work);

  const std::shared_ptr<Synthesizer> voice_;
  const std::shared_ptr<std::atomic<int>> open_ = std::make_shared<std::atomic<int>>(0);
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;
  bool ended_ = false;
  std::stop_source stop_;
  std::vector<std::thread> threads_;
};

}  // namespace liveavatar::serve
