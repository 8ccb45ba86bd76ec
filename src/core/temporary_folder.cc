#include "core/temporary_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "core/errno_text.h"
#include "core/folder.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;
constexpr size_t kRandomBytes = 6;  // of mkdtemp

// -1: another process has it, or it cannot be locked.
int open_locked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 || ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  ::close(fd);
  return -1;
}

bool is_ours(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && info.st_uid == ::geteuid();
}

void remove_left(const fs::path& parent, const std::string& begin) {
  for (const fs::path& entry : folder_entries(parent)) {
    const std::string name = entry.filename().string();
    if (!name.starts_with(begin) || name.size() != begin.size() + kRandomBytes) continue;
    const int fd = open_locked(entry.string());
    if (fd < 0) continue;
    std::error_code ignored;
    if (is_ours(fd)) fs::remove_all(entry, ignored);
    ::close(fd);
  }
}

}  // namespace

Expected<std::unique_ptr<TemporaryFolder>> TemporaryFolder::create(const std::string& parent, const std::string& name,
                                                                   const std::string& advice) {
  std::error_code error;
  const fs::path in = parent.empty() ? fs::temp_directory_path(error) : fs::path(parent);
  const std::string begin = name + "-", end(kRandomBytes, 'X');
  auto failed = [&] { return io_error("no folder can be made in " + in.string() + " " + errno_text(errno, advice)); };
  if (error) return io_error("there is no folder for temporary files; " + advice);
  remove_left(in, begin);
  // It has its name when it is locked, so that no other process takes it for one that was left.
  std::string made = (in / (begin + "new-" + end)).string();
  if (::mkdtemp(made.data()) == nullptr) return failed();
  const std::string path = (in / (begin + made.substr(made.size() - kRandomBytes))).string();
  const int lock = open_locked(made);
  if (::rename(made.c_str(), path.c_str()) == 0)
    return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(path, lock));
  const Status status = failed();
  if (lock >= 0) ::close(lock);
  ::rmdir(made.c_str());
  return status;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

}  // namespace liveavatar
