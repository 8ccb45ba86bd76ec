#include "core/temporary_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/line_output.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<TemporaryFolder> make(const std::string& parent, const std::string& name) {
  auto folder = TemporaryFolder::create(parent, name, "choose another");
  EXPECT_TRUE(folder.ok()) << folder.status().message();
  return folder.ok() ? *std::move(folder) : nullptr;
}

TEST(TemporaryFolder, RemovesWhatAKilledProcessLeftAndNothingElse) {
  const auto parent = make("", "liveavatar-test");
  const fs::path in = parent->path();
  const auto other = make(in.string(), "work");  // of a process that lives
  const std::ofstream inside(fs::path(other->path()) / "file");
  for (const char* name : {"work-AbCdEf", "work-longer-name", "other-AbCdEf"}) fs::create_directory(in / name);
  const std::ofstream left(in / "work-AbCdEf" / "file"), file(in / "work-123456");
  const auto folder = make(in.string(), "work");
  EXPECT_FALSE(fs::exists(in / "work-AbCdEf"));
  EXPECT_TRUE(fs::exists(fs::path(other->path()) / "file"));
  for (const char* name : {"work-longer-name", "other-AbCdEf", "work-123456"})
    EXPECT_TRUE(fs::exists(in / name)) << name;
  EXPECT_NE(folder->path(), other->path());
}

TEST(TemporaryFolder, IsRefusedInALineWhereItCannotBe) {
  const auto folder = TemporaryFolder::create("/no/such/folder", "work", "choose another");
  EXPECT_EQ(folder.status().code(), ErrorCode::kIo);
  EXPECT_NE(folder.status().message().find("/no/such/folder"), std::string::npos) << folder.status().message();
}

TEST(PutLine, KeepsLinesOfSeveralThreadsWhole) {
  const auto parent = make("", "liveavatar-test");
  const std::string path = parent->path() + "/log";
  const int log = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600);
  ASSERT_GE(log, 0);
  auto write = [log](char letter) {
    for (int i = 0; i < 200; ++i) put_line(log, std::string(9000, letter));
  };
  std::thread other(write, 'b');
  write('a');
  other.join();
  ::close(log);
  std::ifstream lines(path);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(line, std::string(9000, line.front()));
  EXPECT_EQ(count, 400);
}

}  // namespace
}  // namespace liveavatar
