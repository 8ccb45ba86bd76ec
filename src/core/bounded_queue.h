// A queue between two threads that holds no more than it may.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace liveavatar {

// One thread pushes, one takes. An item counts until it is popped, also while its taker works on it.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Waits for room. false: the queue was closed, and the item is not in it.
  bool push(T item) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || items_.size() < capacity_; });
    if (closed_) return false;
    items_.push_back(std::move(item));
    changed_.notify_all();
    return true;
  }
  // Waits for an item and leaves it where it is. Nothing: the queue is closed and empty.
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
  // Nothing more comes in; what is inside can be taken.
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
