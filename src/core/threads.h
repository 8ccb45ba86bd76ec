// One pool of worker threads; work is handed out in small pieces on demand, and a worker that comes too late is not
// waited for, so a slow or busy core delays nobody.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace liveavatar {

// CPUs that this process may use; at least one.
int usable_cpus();

constexpr int kMostThreads = 1024;  // of a pool

class ThreadPool {
 public:
  // threads counts the caller: ThreadPool(1) runs everything inline. 0: as many as this process may use. Throws Failure
  // where the system gives no thread.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end, thread) over [0, n) in chunks of at most `grain`; thread is in [0, threads()).
  // Returns when all are done. Callers take turns; body must not call parallel_for itself. What a body throws is thrown
  // here, and chunks that were not begun are left out.
  void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body);

 private:
  void worker(int thread);
  void run_chunks(int thread);
  void stop();

  std::vector<std::thread> workers_;
  std::mutex turn_;  // one parallel_for at a time
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t, int64_t, int)>* body_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<uint64_t> generation_{0};
  bool open_ = false;           // whether workers may still join; under the lock
  std::atomic<int> inside_{0};  // workers that joined; grows under the lock alone
  std::atomic<bool> stop_{false};
  std::exception_ptr failure_;  // the first that a body threw; under the lock
};

}  // namespace liveavatar
