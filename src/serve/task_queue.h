// A thread that works off tasks in their order, for what the I/O thread may not wait for.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace liveavatar::serve {

class TaskQueue {
 public:
  using Task = std::function<void()>;
  // tick: about twice a second, between tasks; may be empty.
  explicit TaskQueue(Task tick = {});
  ~TaskQueue();  // after all tasks
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;
  // A task with the memory that adding it takes.
  using Prepared = std::list<Task>;
  // Any thread. What a task throws is dropped.
  void add(Task task);
  void add(Prepared task) noexcept;

 private:
  void run();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Task> tasks_;
  const Task tick_;
  bool ended_ = false;
  std::thread thread_;  // last: it uses all of the above
};

// The last task of an object, which must not fail for want of memory. It holds the object from add_to() to its end.
template <typename Owner>
class LastTask {
 public:
  explicit LastTask(void (Owner::*run)()) : owner_(std::make_shared<std::shared_ptr<Owner>>()) {
    task_.push_back([owner = owner_, run] {
      const std::shared_ptr<Owner> held = std::move(*owner);  // which holds this object, and would hold itself
      ((*held).*run)();
    });
  }
  // At most once: what comes after is dropped, because the task may be running and reads the owner.
  void add_to(TaskQueue& tasks, std::shared_ptr<Owner> owner) noexcept {
    if (added_) return;
    added_ = true;
    *owner_ = std::move(owner);
    tasks.add(std::move(task_));
  }

 private:
  const std::shared_ptr<std::shared_ptr<Owner>> owner_;
  TaskQueue::Prepared task_;
  bool added_ = false;
};

}  // namespace liveavatar::serve
