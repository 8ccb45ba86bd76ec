#include "parallel/mpi/process_end.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace liveavatar::mpi {
namespace {

std::atomic<int> g_continues{0};
void on_continue(int) { g_continues.fetch_add(1); }

bool handle_continue() {
  struct sigaction before {};
  if (sigaction(SIGCONT, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) return false;
  struct sigaction action {};
  action.sa_handler = on_continue;
  action.sa_flags = SA_RESTART;
  return sigaction(SIGCONT, &action, nullptr) == 0;
}

int open_process(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }
void signal_process(int fd, int signal) { syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0); }

// In a child of a process with threads: only what a signal handler may call.
[[noreturn]] void watch_launcher(int launcher) {
  constexpr int kToEnd_ms = 4500;  // mpirun takes up to 4 s to kill the ranks of other machines
  constexpr int kFd = 3;
  setsid();  // mpirun kills process groups
  dup2(launcher, kFd);
  for (int fd : {0, 1, 2}) ::close(fd);  // for whose end mpirun waits
  syscall(SYS_close_range, kFd + 1, ~0U, 0);
  struct pollfd ended = {kFd, POLLIN, 0};
  if (poll(&ended, 1, kToEnd_ms) == 0) signal_process(kFd, SIGKILL);  // SIGTERM it has had in effect, and waits
  ::_exit(0);
}

}  // namespace

int count_continues() {
  [[maybe_unused]] static const bool handled = handle_continue();
  return g_continues;
}

ExitGuard::ExitGuard(double seconds, int code) {
  waiter_ = std::thread([this, seconds, code] {
    std::unique_lock lock(mutex_);
    const bool over = changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return over_; });
    if (!over) ::_exit(code);
  });
}

ExitGuard::~ExitGuard() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  waiter_.join();
}

bool end_launcher_later() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) return false;
  const int launcher = open_process(getppid());
  if (launcher < 0) return false;
  const pid_t child = fork();
  if (child == 0) watch_launcher(launcher);
  ::close(launcher);
  return child > 0;
}

ProcessId this_process() {
  ProcessId id;
  id.pid = getpid();
  struct stat pids {};
  if (stat("/proc/self/ns/pid", &pids) == 0) id.pid_namespace = pids.st_ino;
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::strncpy(id.boot, boot.c_str(), sizeof(id.boot) - 1);
  return id;
}

Neighbor::Neighbor(const ProcessId& id) {
  const ProcessId own = this_process();
  const bool same_machine = id.pid_namespace == own.pid_namespace && std::strcmp(id.boot, own.boot) == 0;
  if (same_machine && own.boot[0] != '\0' && id.pid != own.pid) fd_ = open_process(static_cast<pid_t>(id.pid));
}

Neighbor::Neighbor(Neighbor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Neighbor::~Neighbor() {
  if (fd_ >= 0) ::close(fd_);
}

void Neighbor::kill() const {
  if (fd_ >= 0) signal_process(fd_, SIGKILL);
}

bool Neighbor::has_ended() const {
  struct pollfd ended = {fd_, POLLIN, 0};
  return fd_ >= 0 && poll(&ended, 1, 0) == 1;
}

}  // namespace liveavatar::mpi
