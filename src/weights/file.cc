#include "weights/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/errno_text.h"

namespace liveavatar {

Expected<std::shared_ptr<const File>> File::open(const std::string& path) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const bool missing = errno == ENOENT;
    const std::string message =
        path + ": cannot be opened " + errno_text(errno, missing ? "check the name" : "see who may read it");
    return missing ? not_found(message) : io_error(message);
  }
  struct stat info {};
  if (fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    return corrupt(path + ": not a regular file; give the name of a file on a disk");
  }
  return std::shared_ptr<const File>(new File(descriptor, static_cast<uint64_t>(info.st_size), path));
}

File::~File() { ::close(descriptor_); }

Status File::read(uint64_t offset, void* target, size_t bytes) const {
  char* to = static_cast<char*>(target);
  while (bytes > 0) {
    ssize_t got = pread(descriptor_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(path_ + ": cannot be read " + errno_text(errno, "copy it to another disk"));
    if (got == 0)
      return corrupt(path_ + ": ends at byte " + std::to_string(offset) +
                     "; the file is truncated; download or copy it again");
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return {};
}

}  // namespace liveavatar
