#include "core/pending_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <new>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "core/folder.h"
#include "core/output_files.h"
#include "core/stop.h"
#include "core/system_calls.h"

namespace liveavatar {
namespace {

namespace fs = std::filesystem;

Status failed(const std::string& path) { return write_failed({"", path}, errno); }

// Follows no link and does not block on a pipe, because others can predict the name. -1 with errno. EEXIST: not a
// regular file.
int open_partial(const std::string& path, int flags) {
  flags |= O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  int descriptor = retry_interrupted([&] { return ::open(path.c_str(), flags, 0666); });
  if (descriptor < 0) {
    if (errno == ENXIO || errno == ELOOP) errno = EEXIST;
    return -1;
  }
  struct stat info {};
  if (::fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode)) return descriptor;
  ::close(descriptor);
  errno = EEXIST;
  return -1;
}

// A file's name, kEnding, and optional numbers (with_own_name()).
bool is_partial(const std::string& name) {
  size_t at = name.rfind(PendingFile::kEnding);
  if (at == std::string::npos) return false;
  return name.find_first_not_of(".0123456789", at + std::strlen(PendingFile::kEnding)) == std::string::npos;
}

Status no_file(const std::string& partial) {
  return io_error(partial + ": is in the way and is no regular file; remove it, or choose another place");
}

}  // namespace

Expected<PendingFile> PendingFile::open(const std::string& path, Busy busy, const std::stop_token& stop,
                                        DiskRoom* room) {
  constexpr auto kPause = std::chrono::milliseconds(20);
  PendingFile file;
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return io_error(path + ": is a folder or a device; give the name of a file");
  file.path_ = follow_links(path);
  file.partial_ = file.path_ + kEnding;
  file.folder_ = OpenFolder(folder_of(file.path_).string());
  file.room_ = room;
  const auto make = [&file] {
    file.descriptor_ = open_partial(file.partial_, O_CREAT);
    return file.descriptor_ < 0 ? errno : 0;
  };
  while (true) {
    LA_RETURN_IF_ERROR(check_stop(stop));
    const int error = RoomyFile{path, room}.retry(0, make);
    if (error != 0) return error == EEXIST ? no_file(file.partial_) : write_failed({"", path}, error);
    Lock lock = try_lock(file.descriptor_);
    if (lock == Lock::kNone) return file.with_own_name();
    // The other job may have finished between opening and locking: then the locked file has another name now.
    if (lock == Lock::kTaken && is_open_at(file.descriptor_, file.partial_)) break;
    ::close(std::exchange(file.descriptor_, -1));
    if (lock == Lock::kBusy && busy == Busy::kRefuse)
      return io_error(path + ": another job writes it; wait for that, or choose another name");
    if (lock == Lock::kBusy) std::this_thread::sleep_for(kPause);
  }
  if (retry_interrupted([&] { return ::ftruncate(file.descriptor_, 0); }) != 0) return failed(path);
  return file;
}

Expected<PendingFile> PendingFile::with_own_name() {
  ::unlink(partial_.c_str());  // no job can have it locked
  ::close(std::exchange(descriptor_, -1));
  std::random_device random;
  partial_.append(".").append(std::to_string(::getpid())).append(".").append(std::to_string(random()));
  descriptor_ = open_partial(partial_, O_CREAT | O_EXCL);
  if (descriptor_ < 0) return failed(path_);
  try_lock(descriptor_);  // locks that fail now and then: remove_abandoned() leaves it alone where this one holds
  return std::move(*this);
}

PendingFile::~PendingFile() {
  if (descriptor_ < 0) return;
  try {  // before closing releases the lock
    ::unlink(folder_.path_of(partial_).c_str());
  } catch (const std::bad_alloc&) {  // no memory to look where its folder is
    ::unlink(partial_.c_str());
  }
  ::close(descriptor_);
}

Expected<int> PendingFile::publish() {
  if (sync_file(descriptor_) != 0) return failed(path_);
  const std::string from = folder_.path_of(partial_), to = folder_.path_of(path_);
  const auto give_name = [&] { return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno; };
  if (const int error = RoomyFile{path_, room_}.retry(0, give_name); error != 0)
    return write_failed({"", path_}, error);
  return std::exchange(descriptor_, -1);
}

Status PendingFile::commit() {
  LA_ASSIGN_OR_RETURN(int descriptor, publish());
  ::close(descriptor);
  return {};
}

void PendingFile::swap(PendingFile& other) {
  std::swap(path_, other.path_);
  std::swap(partial_, other.partial_);
  std::swap(folder_, other.folder_);
  std::swap(room_, other.room_);
  std::swap(descriptor_, other.descriptor_);
}

int remove_abandoned(const std::string& folder) {
  std::vector<std::string> partials;
  for (const fs::path& entry : folder_entries(folder)) {
    if (is_partial(entry.filename().string())) partials.push_back(entry.string());
  }
  int removed = 0;
  for (const std::string& path : partials) {
    int descriptor = open_partial(path, 0);
    if (descriptor < 0) continue;
    bool abandoned = try_lock(descriptor) == Lock::kTaken && is_open_at(descriptor, path);
    if (abandoned && ::unlink(path.c_str()) == 0) ++removed;
    ::close(descriptor);
  }
  return removed;
}

}  // namespace liveavatar
