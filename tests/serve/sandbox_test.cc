// What the sandbox refuses. Each test is a process of its own: nothing is given back.
#include "serve/sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <thread>

#include "core/temporary_folder.h"
#include "support/sanitized.h"

namespace liveavatar::sandbox {
namespace {

constexpr int kSkipped = 77;

// The exit code of a child: 0; kSkipped: this system has no such sandbox; else the line that failed.
int in_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  int state = 0;
  ::waitpid(child, &state, 0);
  return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

int open_error(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags, 0600);
  if (fd < 0) return errno;
  ::close(fd);
  return 0;
}

int run_error() {
  char name[] = "/bin/true";
  char* arguments[] = {name, nullptr};
  ::execv(name, arguments);
  return errno;
}

#define EXPECT_CHILD(...)                                                    \
  do {                                                                       \
    const int code = in_child(__VA_ARGS__);                                  \
    if (code == kSkipped) GTEST_SKIP() << "this system has no such sandbox"; \
    EXPECT_EQ(code, 0) << "the check that failed, by its number";            \
  } while (0)

class Sandbox : public testing::Test {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "a sanitizer has files and threads of its own";
    folder_ = *TemporaryFolder::create("", "sandbox-test", "");
    for (const char* name : {"read", "write", "out"}) std::filesystem::create_directory(path(name));
    std::fclose(std::fopen((path("read") + "/file").c_str(), "w"));
    std::fclose(std::fopen((path("out") + "/file").c_str(), "w"));
  }
  std::string path(const std::string& name) const { return folder_->path() + "/" + name; }
  bool restricted() const { return restrict_files({{path("read"), path("none")}, {path("write")}}).ok(); }
  std::unique_ptr<TemporaryFolder> folder_;
};

TEST_F(Sandbox, FilesOutsideAreRefused) {
  EXPECT_CHILD([&] {
    if (!restricted()) return kSkipped;
    if (open_error(path("out") + "/file", O_RDONLY) != EACCES) return 1;
    if (open_error("/etc/passwd", O_RDONLY) != EACCES) return 2;
    if (open_error(path("read") + "/file", O_RDONLY) != 0) return 3;
    if (open_error(path("read") + "/file", O_WRONLY) != EACCES) return 4;
    if (open_error(path("read") + "/new", O_WRONLY | O_CREAT) != EACCES) return 5;
    if (open_error(path("write") + "/new", O_WRONLY | O_CREAT) != 0) return 6;
    if (::rename((path("write") + "/new").c_str(), (path("write") + "/named").c_str()) != 0) return 7;
    if (::unlink((path("write") + "/named").c_str()) != 0) return 8;
    return run_error() == EACCES ? 0 : 9;
  });
}

TEST_F(Sandbox, ALaterThreadIsBoundByTheFiles) {
  EXPECT_CHILD([&] {
    if (!restricted()) return kSkipped;
    int error = 0;
    std::thread([&] { error = open_error("/etc/passwd", O_RDONLY); }).join();
    return error == EACCES ? 0 : 1;
  });
}

// Where the kernel cannot bind it, nothing is said to be restricted.
TEST_F(Sandbox, AnEarlierThreadIsBoundOrFilesAreNotRestricted) {
  EXPECT_CHILD([&] {
    std::atomic<bool> go = false;
    int error = 0;
    std::thread earlier([&] {
      while (!go) std::this_thread::yield();
      error = open_error("/etc/passwd", O_RDONLY);
    });
    const bool is_restricted = restricted();
    go = true;
    earlier.join();
    return error == (is_restricted ? EACCES : 0) ? 0 : 1;
  });
}

TEST_F(Sandbox, CallsAreRefused) {
  EXPECT_CHILD([&] {
    if (!restrict_calls().ok()) return kSkipped;
    if (run_error() != EPERM) return 1;
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != -1 || errno != EPERM) return 2;
    if (::syscall(SYS_unshare, CLONE_NEWUSER) != -1 || errno != EPERM) return 3;
    if (::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) != -1 || errno != EPERM) return 4;
    if (::syscall(SYS_setuid, 0) != -1 || errno != EPERM) return 5;
    if (::syscall(SYS_io_uring_setup, 1, nullptr) != -1 || errno != EPERM) return 6;
    return open_error("/etc/passwd", O_RDONLY) == 0 ? 0 : 7;
  });
}

TEST_F(Sandbox, EarlierAndLaterThreadsAreBoundByTheCalls) {
  EXPECT_CHILD([&] {
    std::atomic<bool> go = false;
    int earlier_error = 0, later_error = 0;
    std::thread earlier([&] {
      while (!go) std::this_thread::yield();
      earlier_error = run_error();
    });
    const bool is_restricted = restrict_calls().ok();
    go = is_restricted;
    if (!is_restricted) ::_exit(kSkipped);
    earlier.join();
    std::thread([&] { later_error = run_error(); }).join();
    return earlier_error == EPERM && later_error == EPERM ? 0 : 1;
  });
}

}  // namespace
}  // namespace liveavatar::sandbox
