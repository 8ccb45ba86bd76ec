// One pool of worker threads. Each thread takes the next small chunk of work when it is free. The pool does not wait
// for workers that did not start, so a slow or busy core delays no work.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace liveavatar {

// CPUs that this process may use, at least one.
int usable_cpus();

constexpr int kMostThreads = 1024;  // in a pool

class ThreadPool {
 public:
  enum class Workers { kStart, kNone };  // kNone: everything runs inline, and threads() is as if they had started
  // threads includes the caller: ThreadPool(1) runs everything inline. 0: as many as this process may use. Throws
  // Failure if the system cannot start a thread.
  explicit ThreadPool(int threads = 0, Workers workers = Workers::kStart);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls body(begin, end, thread) over [0, n) in chunks of at most `grain`; thread is in [0, threads()).
  // Returns when all are done. One call runs at a time: others wait. body must not call parallel_for. An exception of a
  // body is rethrown here, and chunks that did not start are skipped.
  void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body);

 private:
  void worker(int thread);
  void run_chunks(int thread);
  void stop();

  const int threads_;
  std::vector<std::thread> workers_;
  std::mutex call_;  // one parallel_for at a time
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t, int64_t, int)>* body_ = nullptr;
  int64_t n_ = 0, grain_ = 1;
  std::atomic<int64_t> next_{0};
  std::atomic<uint64_t> generation_{0};
  bool open_ = false;           // whether workers may still join; guarded by mutex_
  std::atomic<int> inside_{0};  // workers that joined; incremented only with mutex_ held
  std::atomic<bool> stop_{false};
  std::exception_ptr failure_;  // the first exception of a body; guarded by mutex_
};

}  // namespace liveavatar
