// A queue of limited capacity between two threads.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace liveavatar {

// One producer, one consumer. An item counts until it is popped, also while the consumer works on it.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Waits for a free place. false: the queue was closed, and the item is not in it.
  bool push(T item) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || items_.size() < capacity_; });
    if (closed_) return false;
    items_.push_back(std::move(item));
    changed_.notify_all();
    return true;
  }
  // Waits for an item and returns it without popping. Empty: the queue is closed and empty.
  std::optional<T> front() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return {};
    return items_.front();
  }
  void pop() {
    std::lock_guard lock(mutex_);
    items_.pop_front();
    changed_.notify_all();
  }
  // No more items are accepted. Those in the queue can still be popped.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace liveavatar
