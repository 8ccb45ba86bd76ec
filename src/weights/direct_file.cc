#include "weights/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace liveavatar {
namespace {

constexpr size_t kPieceBytes = size_t{8} << 20;

}  // namespace

Expected<std::unique_ptr<DirectFile>> DirectFile::open(const std::string& path, Pread pread) {
  std::unique_ptr<DirectFile> file(new DirectFile(path, pread ? pread : ::pread));
  file->descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (file->descriptor_ < 0 && errno == EINVAL) LA_RETURN_IF_ERROR(file->give_up_direct());
  if (file->descriptor_ < 0) {
    std::string message = path + ": " + std::strerror(errno);
    return errno == ENOENT ? not_found(message) : io_error(message);
  }
  struct stat info {};
  if (fstat(file->descriptor_, &info) != 0 || !S_ISREG(info.st_mode)) return corrupt(path + ": not a regular file");
  file->bytes_ = static_cast<uint64_t>(info.st_size);
  return file;
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status DirectFile::give_up_direct() {
  if (descriptor_ >= 0) ::close(descriptor_);
  direct_ = false;
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  return descriptor_ >= 0 ? Status() : io_error(path_ + ": " + std::strerror(errno));
}

Status DirectFile::read(uint64_t offset, void* target, size_t bytes, const std::atomic<bool>& stop) {
  LA_CHECK(offset % kAlign == 0 && bytes % kAlign == 0 && reinterpret_cast<uintptr_t>(target) % kAlign == 0);
  char* to = static_cast<char*>(target);
  uint64_t begin = offset;
  for (size_t left = bytes; left > 0;) {
    if (stop) return cancelled("reading was stopped");
    ssize_t got = pread_(descriptor_, to, std::min(left, kPieceBytes), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    // Refused here, or after a read that ended in the middle of a sector.
    if (got < 0 && errno == EINVAL && direct_) {
      LA_RETURN_IF_ERROR(give_up_direct());
      continue;
    }
    if (got < 0) return io_error(path_ + ": " + std::strerror(errno));
    if (got == 0) return corrupt(path_ + ": ends at byte " + std::to_string(offset) + "; the file was cut off");
    to += got;
    offset += static_cast<uint64_t>(got);
    left -= static_cast<size_t>(got);
  }
  if (!direct_) posix_fadvise(descriptor_, static_cast<off_t>(begin), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
  return {};
}

}  // namespace liveavatar
