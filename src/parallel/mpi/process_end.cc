#include "parallel/mpi/process_end.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
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
  if (same_machine && own.boot[0] != '\0' && id.pid != own.pid)
    fd_ = static_cast<int>(syscall(SYS_pidfd_open, id.pid, 0));
}

Neighbor::Neighbor(Neighbor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Neighbor::~Neighbor() {
  if (fd_ >= 0) ::close(fd_);
}

void Neighbor::kill() const {
  if (fd_ >= 0) syscall(SYS_pidfd_send_signal, fd_, SIGKILL, nullptr, 0);
}

}  // namespace liveavatar::mpi
