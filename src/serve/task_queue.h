// A thread that works off tasks in their order, for what the I/O thread may not wait for.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace liveavatar::serve {

class TaskQueue {
 public:
  using Task = std::function<void()>;
  // tick: about twice a second, between tasks; may be empty.
  explicit TaskQueue(Task tick = {});
  ~TaskQueue();  // after all tasks
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;
  // Any thread. What a task throws is dropped.
  void add(Task task);

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  const Task tick_;
  bool ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace liveavatar::serve
