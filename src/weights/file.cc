#include "weights/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/errno_text.h"
#include "core/system_calls.h"

namespace liveavatar {

Expected<std::shared_ptr<const File>> File::open(const std::string& path) {
  int descriptor = retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
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
  const ssize_t got = read_all_at(descriptor_, target, bytes, offset);
  if (got < 0) return io_error(path_ + ": cannot be read " + errno_text(errno, "copy it to another disk"));
  if (static_cast<size_t>(got) == bytes) return {};
  return corrupt(path_ + ": ends at byte " + std::to_string(offset + static_cast<size_t>(got)) +
                 "; the file is truncated; download or copy it again");
}

}  // namespace liveavatar
