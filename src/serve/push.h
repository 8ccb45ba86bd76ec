// A live session's frames and sound on their way to a target that the operator named.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "liveavatar/live.h"

namespace liveavatar {
class LiveStream;
}

namespace liveavatar::serve {

// Of one session, or of all of a target's.
struct PushCounts {
  std::atomic<int64_t> sent_frames{0}, dropped_frames{0};
  std::atomic<int64_t> connections{0}, failures{0};  // that were opened; that were lost or not opened
  std::atomic<bool> connected{false};
};

enum class PushTrouble {
  kLost,  // the target is gone; it is tried again
  kSlow,  // it does not take the stream as fast as it is made
};

struct PushCalls {
  // Connects, for chunks like this one; may take as long as it does.
  std::function<Expected<std::unique_ptr<LiveStream>>(const LiveChunk& like, const std::stop_token& stop)> open;
  // On the push's thread. kLost: once until it is connected again; kSlow: once.
  std::function<void(PushTrouble trouble, const Status& why)> on_trouble;
};

// A queue of 2 s and a thread, which encodes, sends, and connects again: at once, then after 1, 2, 4, ... 30 s.
class Push {
 public:
  static constexpr size_t kMostChunks = 12;
  // totals: counted too. previous: of the same target; it ends before this one connects.
  Push(PushCalls calls, std::shared_ptr<PushCounts> totals, std::shared_ptr<Push> previous);
  ~Push();  // within a second
  Push(const Push&) = delete;
  Push& operator=(const Push&) = delete;

  // Copies the chunk and does not wait: where the queue is full its oldest one is dropped. Without memory, this one.
  void offer(const LiveChunk& chunk) noexcept;
  // Nothing more comes. What waits is sent if the target is connected, by a thread that nobody waits for.
  void close();
  bool is_closed() const;
  bool has_ended() const { return ended_; }
  const PushCounts& counts() const { return counts_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Piece {
    LiveChunk chunk;  // its rgb and audio are those below
    std::vector<uint8_t> rgb;
    std::vector<int16_t> audio;
  };
  static std::unique_ptr<Piece> copy_of(const LiveChunk& chunk);
  void add(std::unique_ptr<Piece> piece);
  void run();
  std::unique_ptr<Piece> next();
  Status send(const Piece& piece);
  Status open(const LiveChunk& like);
  void fail(const Status& why);
  void say_trouble(PushTrouble trouble, const Status& why);
  void count(std::atomic<int64_t> PushCounts::*counter, int64_t number);
  void set_connected(bool connected);
  void wait_for_previous();

  const PushCalls calls_;
  const std::shared_ptr<PushCounts> totals_;
  PushCounts counts_;
  std::stop_source stop_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::unique_ptr<Piece>> waiting_;
  bool closed_ = false;
  std::atomic<bool> ended_ = false, too_slow_ = false;

  // Of the thread.
  std::shared_ptr<Push> previous_;
  std::unique_ptr<LiveStream> stream_;
  bool in_trouble_ = false, said_slow_ = false;
  int failures_ = 0;  // in a row
  Clock::time_point retry_at_{};
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace liveavatar::serve
