// How frames and progress reach the caller of a job, on the caller's own thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "liveavatar/liveavatar.h"

namespace liveavatar {

// The last of a run's parts. Frames in order.
class Delivery {
 public:
  virtual ~Delivery() = default;
  // Returns when they were used. kCancelled: the caller wants no more.
  virtual Status frames(const VideoChunk& block) = 0;
  virtual void progress(const Progress& progress) = 0;
};

// On the thread that makes them.
class DirectDelivery : public Delivery {
 public:
  DirectDelivery(const ChunkCallback& on_chunk, const std::function<void(const Progress&)>& on_progress)
      : on_chunk_(on_chunk), on_progress_(on_progress) {}
  Status frames(const VideoChunk& block) override;
  void progress(const Progress& progress) override;

 private:
  const ChunkCallback& on_chunk_;
  const std::function<void(const Progress&)>& on_progress_;
};

// From other threads to the one that calls serve().
class RelayedDelivery : public Delivery {
 public:
  Status frames(const VideoChunk& block) override;
  void progress(const Progress& progress) override;  // does not wait

  // Hands everything on until close() and all is handed on. What a callback throws passes through; before that, and
  // after a callback that wants no more, waiting threads return kCancelled.
  Status serve(Delivery& to);
  // Nothing more will come.
  void close();

 private:
  struct Event {
    Progress progress;
    const VideoChunk* block = nullptr;  // null: progress
  };
  Status serve_events(Delivery& to);
  void refuse();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  int64_t used_ = 0, posted_ = 0;  // blocks
  bool closed_ = false, refused_ = false;
};

}  // namespace liveavatar
