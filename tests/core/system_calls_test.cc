#include "core/system_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "support/temp_dir.h"

namespace liveavatar {
namespace {

TEST(SystemCalls, AnInterruptedCallIsMadeAgain) {
  int calls = 0;
  auto interrupted_twice = [&calls] {
    errno = EINTR;
    return ++calls < 3 ? -1 : 7;
  };
  EXPECT_EQ(retry_interrupted(interrupted_twice), 7);
  EXPECT_EQ(calls, 3);
  calls = 0;
  auto refused = [&calls] {
    ++calls;
    errno = EIO;
    return -1;
  };
  EXPECT_EQ(retry_interrupted(refused), -1);
  EXPECT_EQ(calls, 1);
}

TEST(SystemCalls, WritesAndReadsAllBytes) {
  TempDir dir;
  const int file = ::open((dir.path() / "a").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  const std::string text(100'000, 'x');
  EXPECT_EQ(write_all(file, text.data(), text.size()), 0);
  EXPECT_EQ(write_all_at(file, "yz", 2, text.size()), 0);
  EXPECT_EQ(sync_file(file), 0);
  std::string read(text.size() + 10, '\0');
  EXPECT_EQ(read_all_at(file, read.data(), read.size(), 0), static_cast<ssize_t>(text.size() + 2));
  read.resize(text.size() + 2);
  EXPECT_TRUE(read == text + "yz");
  ::close(file);
}

TEST(SystemCalls, ErrorsAreErrno) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(write_all(full, "x", 1), ENOSPC);
  EXPECT_EQ(write_all(full, "", 0), 0);
  ::close(full);
  EXPECT_EQ(write_all(-1, "x", 1), EBADF);
  char byte = 0;
  EXPECT_EQ(read_all_at(-1, &byte, 1, 0), -1);
}

}  // namespace
}  // namespace liveavatar
