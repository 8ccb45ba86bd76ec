#include "serve/task_queue.h"

#include <chrono>
#include <utility>

namespace liveavatar::serve {
namespace {

void contained_run(const TaskQueue::Task& task) {
  try {
    if (task) task();
  } catch (...) {  // a task reports its errors itself
  }
}

}  // namespace

TaskQueue::TaskQueue(Task tick) : tick_(std::move(tick)), thread_([this] { run(); }) {}

TaskQueue::~TaskQueue() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TaskQueue::add(Task task) {
  Prepared prepared;
  prepared.push_back(std::move(task));
  add(std::move(prepared));
}

void TaskQueue::add(Prepared task) noexcept {
  std::lock_guard lock(mutex_);
  tasks_.splice(tasks_.end(), task);
  changed_.notify_all();
}

void TaskQueue::run() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kTick = std::chrono::milliseconds(500);
  Clock::time_point next_tick = Clock::now() + kTick;
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait_until(lock, next_tick, [&] { return ended_ || !tasks_.empty(); });
    if (tasks_.empty() && ended_) return;
    Prepared task;
    if (!tasks_.empty()) task.splice(task.begin(), tasks_, tasks_.begin());
    lock.unlock();
    if (!task.empty()) contained_run(task.front());
    task.clear();
    if (Clock::now() >= next_tick) {
      contained_run(tick_);
      next_tick = Clock::now() + kTick;
    }
    lock.lock();
  }
}

}  // namespace liveavatar::serve
