// What the caller of a live session and the engine's live thread share: the sound that goes in, and the chunks that
// come out on a thread of the session's own.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "core/memory.h"
#include "liveavatar/live.h"
#include "session/live_columns.h"

namespace liveavatar {

// Wakes the live thread. Whoever changes what it waits for raises it afterwards, with no other lock held.
struct LiveSignal {
  std::mutex mutex;
  std::condition_variable changed;
  void raise() {
    { std::lock_guard lock(mutex); }
    changed.notify_all();
  }
};

// A chunk, and where its values are written.
struct LiveSlot {
  LiveChunk chunk;
  uint8_t* rgb = nullptr;
  int16_t* audio = nullptr;
};

// What a caller wants changed, and waits for; one of the two.
struct LiveChange {
  std::optional<std::string> prompt, portrait;  // the portrait's path
  // The first frame that has it.
  std::promise<Expected<int64_t>> done;
  const char* call() const { return prompt ? "set_prompt" : "set_portrait"; }
};

class LiveFeed {
 public:
  LiveFeed(const JobShape& shape, const LiveCallbacks& callbacks, std::shared_ptr<LiveSignal> signal);

  // The caller's side: as LiveSession's.
  int64_t width() const { return shape_.width; }
  int64_t height() const { return shape_.height; }
  Status push(std::span<const int16_t> samples);
  Status push(std::span<const float> samples);
  Status end_speech();
  Expected<LivePosition> interrupt();
  Expected<int64_t> set_prompt(const std::string& prompt);
  Expected<int64_t> set_portrait(const std::string& path);
  void close();

  // The live thread's side.
  // That waits; null: none. Whoever takes it says when it is done.
  LiveChange* take_change();
  LiveSound& sound() { return *sound_; }
  std::stop_token stop() const { return stop_.get_token(); }
  void open(LiveChunkMemory memory);  // its thread starts
  // Whether so many chunks more can wait.
  bool has_room(int64_t chunks);
  // A free one; post() gives it to the caller.
  LiveSlot& next();
  void post();
  // No more chunks: what waits goes out, then on_end says why.
  void end(const Status& why);
  // Whether no callback runs or will.
  bool finished();
  // Finished: frees all that it has of the session's budget.
  void free_memory();
  // The session is gone: close() returns.
  void release();

 private:
  Expected<int64_t> change(LiveChange& change);
  void refuse_change();
  void deliver();
  Status deliver_one(const LiveChunk& chunk);
  void call_end(const Status& why);

  const JobShape shape_;
  const LiveCallbacks callbacks_;
  const std::shared_ptr<LiveSignal> signal_;
  std::stop_source stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<LiveSound> sound_;
  LiveChunkMemory memory_;
  std::vector<LiveSlot> slots_;     // a ring
  int64_t posted_ = 0, taken_ = 0;  // chunks so far
  Status status_;                   // why it ended
  std::mutex changing_;             // held by the caller whose change is next
  LiveChange* change_ = nullptr;    // the caller's
  bool closed_ = false, ended_ = false, finished_ = false, released_ = false;
  std::thread::id delivering_;  // the thread that runs callbacks; thread_ itself is joined without the mutex
  std::thread thread_;
};

}  // namespace liveavatar
