// What is written by name: whole or not at all, and nothing waits for a reader.
#include "core/output_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "core/errno_text.h"
#include "core/pending_file.h"
#include "support/temp_dir.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

class OutputClaimTest : public ::testing::Test {
 protected:
  std::string make(const std::string& name, const std::string& text) const {
    std::ofstream(dir_.file(name)) << text;
    return dir_.file(name);
  }
  static std::string content(const std::string& path) {
    std::ifstream in(path);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  }
  static Status write(const std::string& path, const std::string& text) {
    LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::acquire({"--report", path}));
    return claim.write(text);
  }
  TempDir dir_;
};

// A limit on file sizes stands for the full disk.
class SmallFiles {
 public:
  SmallFiles() {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit small{1024, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(OutputClaimTest, WhatCannotBeWrittenWholeKeepsTheOldFile) {
  const std::string old = make("old.json", "kept"), one = make("one.json", "kept"), link = dir_.file("link.json");
  fs::create_hard_link(one, dir_.file("two.json"));
  fs::create_symlink("old.json", link);
  {
    SmallFiles limit;
    for (const std::string& path : {old, one, link, dir_.file("new.json")}) {
      Status status = write(path, std::string(5000, 'x'));
      EXPECT_EQ(status.code(), ErrorCode::kIo) << path;
      EXPECT_NE(status.message().find("ulimit -f"), std::string::npos) << status.message();
    }
  }
  EXPECT_EQ(content(old), "kept");
  EXPECT_EQ(content(one), "kept");
  EXPECT_FALSE(fs::exists(dir_.file("new.json")));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path()), fs::directory_iterator()), 4);
}

TEST_F(OutputClaimTest, ReplacesTheContentAndNothingElse) {
  const std::string old = make("old.json", "a longer text"), one = make("one.json", "a longer text");
  fs::permissions(old, fs::perms::owner_read | fs::perms::owner_write | fs::perms::others_read);
  const fs::perms mode = fs::status(old).permissions();
  fs::create_hard_link(one, dir_.file("two.json"));
  fs::create_symlink("old.json", dir_.file("link.json"));
  EXPECT_TRUE(write(dir_.file("link.json"), "new").ok());
  EXPECT_TRUE(write(one, "new").ok());
  EXPECT_TRUE(fs::is_symlink(dir_.file("link.json")));
  EXPECT_EQ(content(old), "new\n");
  EXPECT_EQ(fs::status(old).permissions(), mode);
  EXPECT_EQ(content(dir_.file("two.json")), "new\n");
  // Twice by one claim, as a job that fails late may.
  auto claim = OutputClaim::acquire({"--report", dir_.file("new.json")});
  ASSERT_TRUE(claim.ok());
  EXPECT_TRUE(claim->write("a first text").ok());
  EXPECT_TRUE(claim->write("second").ok());
  EXPECT_EQ(content(dir_.file("new.json")), "second\n");
}

TEST_F(OutputClaimTest, APipeWithoutAReaderIsSaid) {
  const std::string pipe = dir_.file("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  Status status = write(pipe, "x");
  EXPECT_EQ(status.message(), "--report " + pipe + ": is a pipe that nothing reads; start its reader first");
  int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  EXPECT_TRUE(write(pipe, "read").ok());
  char text[8] = {};
  EXPECT_EQ(::read(reader, text, sizeof(text)), 5);
  EXPECT_STREQ(text, "read\n");
  ::close(reader);
  EXPECT_TRUE(write("/dev/null", "x").ok());
  EXPECT_FALSE(write("/dev/full", "x").ok());
}

// As /dev/stdout with standard output in a file.
TEST_F(OutputClaimTest, AnOpenFileOfTheProcessIsWrittenWhereItStands) {
  int open_file = ::open(dir_.file("out").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::write(open_file, "table\n", 6), 6);
  EXPECT_TRUE(write("/dev/fd/" + std::to_string(open_file), "json").ok());
  EXPECT_EQ(::write(open_file, "more\n", 5), 5);
  ::close(open_file);
  EXPECT_EQ(content(dir_.file("out")), "table\njson\nmore\n");
}

TEST_F(OutputClaimTest, ATemporaryFileHasNoName) {
  auto claim = OutputClaim::temporary(dir_.string(), "bench.mp4");
  ASSERT_TRUE(claim.ok()) << claim.status().message();
  for (const std::string text : {"a longer text", "short"}) {
    auto descriptor = claim->begin();
    ASSERT_TRUE(descriptor.ok());
    EXPECT_EQ(::write(*descriptor, text.data(), text.size()), ssize_t(text.size()));
    EXPECT_TRUE(claim->publish().ok() && claim->check_name().ok());
    EXPECT_EQ(claim->bytes(), text.size());
    EXPECT_TRUE(fs::is_empty(dir_.path()));
  }
  EXPECT_FALSE(OutputClaim::temporary("/nowhere", "bench.mp4").ok());
}

TEST(ErrnoText, ALimitOfTheProcessHasItsOwnAdvice) {
  EXPECT_NE(errno_text(EMFILE, "other").find("ulimit -n"), std::string::npos);
  EXPECT_NE(errno_text(EFBIG, "other").find("ulimit -f"), std::string::npos);
  EXPECT_EQ(errno_text(ENOSPC, "make room"), "(No space left on device); make room");
}

}  // namespace
}  // namespace liveavatar
