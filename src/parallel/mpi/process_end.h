// How a process of mpirun ends, and what ends others.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace liveavatar::mpi {

// mpirun continues all processes before it kills them, a second before SIGTERM. From the first call on SIGCONT is
// counted (unless the program handles it itself); these are the signals since.
int count_continues();

// Ends this process with `code` if it lives for more than `seconds`: for a call of MPI that may never return.
class ExitGuard {
 public:
  ExitGuard(double seconds, int code);
  ~ExitGuard();
  ExitGuard(const ExitGuard&) = delete;
  ExitGuard& operator=(const ExitGuard&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread waiter_;
};

// Under mpirun: where mpirun, or its part on this machine, still lives some seconds from now, ends it; a process of its
// own sees to that. After a network was lost mpirun waits for the other machine without an end. -> whether it was
// begun.
bool end_launcher_later();

// What a process tells others about itself, so that those of its machine can kill it.
struct ProcessId {
  int64_t pid = 0;
  uint64_t pid_namespace = 0;
  char boot[40] = "";  // of this start of the machine: two hosts may have the same name
};
ProcessId this_process();

// A process of this machine, which stays itself: its number is not given to another one.
class Neighbor {
 public:
  explicit Neighbor(const ProcessId& id);
  ~Neighbor();
  Neighbor(Neighbor&& other) noexcept;
  Neighbor& operator=(Neighbor&&) = delete;
  bool is_here() const { return fd_ >= 0; }
  // Nothing where it is of another machine, or not there any more.
  void kill() const;
  bool has_ended() const;

 private:
  int fd_ = -1;
};

}  // namespace liveavatar::mpi
