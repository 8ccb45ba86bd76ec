#include "core/threads.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/boundary.h"

namespace liveavatar {

namespace {

// A sleeping thread needs tens of microseconds to wake, as long as many ops take. It spins that long for the next op.
constexpr int kSpins = 4000;

template <typename Done>
bool spin_until(const Done& done) {
  for (int i = 0; i < kSpins; ++i) {
    if (done()) return true;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

}  // namespace

int usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads, Workers workers) : threads_(threads > 0 ? threads : usable_cpus()) {
  if (workers == Workers::kNone) return;
  try {
    for (int i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { worker(i); });
  } catch (const std::exception& e) {
    const size_t have = workers_.size() + 1;
    stop();
    throw Failure(out_of_memory(std::to_string(threads_) + " threads: the system gives no more than " +
                                std::to_string(have) + " (" + e.what() +
                                "); take fewer (`threads`, `decode_threads`), or raise the limit of processes or "
                                "memory (ulimit -u, -v)"));
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (auto& w : workers_) w.join();
}

void ThreadPool::parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  std::lock_guard call(call_);
  if (workers_.empty() || n <= grain) {
    body(0, n, 0);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    body_ = &body;
    n_ = n;
    grain_ = grain;
    next_ = 0;
    open_ = true;
    ++generation_;
  }
  start_.notify_all();
  run_chunks(0);
  {
    std::lock_guard lock(mutex_);
    open_ = false;
  }
  if (!spin_until([this] { return inside_ == 0; })) {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return inside_ == 0; });
  }
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void ThreadPool::run_chunks(int thread) {
  try {
    int64_t begin = next_.fetch_add(grain_);
    while (begin < n_) {
      (*body_)(begin, std::min(n_, begin + grain_), thread);
      begin = next_.fetch_add(grain_);
    }
  } catch (...) {
    next_ = n_;
    std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void ThreadPool::worker(int thread) {
  uint64_t seen = 0;
  while (true) {
    spin_until([&] { return stop_ || generation_ != seen; });
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      if (!open_) continue;
      ++inside_;
    }
    run_chunks(thread);
    std::lock_guard lock(mutex_);
    const int left = --inside_;
    if (left == 0) done_.notify_one();
  }
}

}  // namespace liveavatar
