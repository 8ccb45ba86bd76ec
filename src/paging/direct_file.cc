#include "paging/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/errno_text.h"
#include "core/system_calls.h"

namespace liveavatar {
namespace {

constexpr size_t kPieceBytes = size_t{8} << 20;
constexpr const char* kAnotherPlace = "choose another place";

}  // namespace

std::string gb_text(uint64_t bytes) {
  uint64_t unit = 1'000'000'000;
  const char* name = " GB";
  for (const char* smaller : {" MB", " kB"}) {
    if (bytes >= unit) break;
    unit /= 1000;
    name = smaller;
  }
  if (bytes < unit) return std::to_string(bytes) + " bytes";
  uint64_t tenths = bytes / (unit / 10);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + name;
}

Expected<uint64_t> disk_left_bytes(const std::string& folder) {
  struct statvfs disk {};
  if (::statvfs(folder.c_str(), &disk) != 0)
    return io_error(folder + ": cannot be read " + errno_text(errno, kAnotherPlace));
  return uint64_t{disk.f_bavail} * disk.f_frsize;
}

Expected<std::unique_ptr<DirectFile>> DirectFile::open(const std::string& path, Pread pread) {
  std::unique_ptr<DirectFile> file(new DirectFile(path));
  file->pread_ = pread ? pread : ::pread;
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // do not block on a pipe
  auto open = [&](int flags) { return retry_interrupted([&] { return ::open(path.c_str(), flags); }); };
  file->descriptor_ = open(kFlags | O_DIRECT);
  if (file->descriptor_ < 0 && errno == EINVAL) {
    file->direct_ = false;
    file->descriptor_ = open(kFlags);
  }
  if (file->descriptor_ < 0) {
    std::string message = path + ": cannot be opened " + errno_text(errno, "check the name, and who may read it");
    return errno == ENOENT ? not_found(message) : io_error(message);
  }
  struct stat info {};
  bool known = ::fstat(file->descriptor_, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    return corrupt(path + ": not a regular file; give the name of a file on a disk");
  }
  file->bytes_ = static_cast<uint64_t>(info.st_size);
  return file;
}

Expected<std::unique_ptr<DirectFile>> DirectFile::scratch(const std::string& folder, uint64_t bytes, Pwrite pwrite) {
  std::string path = folder + "/liveavatar-XXXXXX";
  int descriptor = ::mkostemp(path.data(), O_CLOEXEC);
  if (descriptor < 0) return io_error(folder + ": cannot be written " + errno_text(errno, kAnotherPlace));
  ::unlink(path.c_str());
  std::unique_ptr<DirectFile> file(new DirectFile("a scratch file in " + folder));
  file->pread_ = ::pread;
  file->pwrite_ = pwrite ? pwrite : ::pwrite;
  file->descriptor_ = descriptor;
  file->bytes_ = bytes;
  LA_RETURN_IF_ERROR(file->allocate_space(folder));
  int flags = ::fcntl(descriptor, F_GETFL);
  file->direct_ = ::fcntl(descriptor, F_SETFL, flags | O_DIRECT) == 0;
  return file;
}

// If space cannot be allocated, at least check that it is free.
Status DirectFile::allocate_space(const std::string& folder) {
  if (bytes_ == 0) return {};
  const auto bytes = static_cast<off_t>(bytes_);
  if (retry_interrupted([&] { return ::fallocate(descriptor_, 0, 0, bytes); }) == 0) return {};
  const int error = errno;
  const bool full = error == ENOSPC, too_large = error == EFBIG;
  const bool unsupported_here = error == EOPNOTSUPP || error == ENOSYS;
  if (!full && !too_large && !unsupported_here) return failed(error);
  LA_ASSIGN_OR_RETURN(uint64_t left, disk_left_bytes(folder));
  if (full || left < bytes_) {
    return io_error(path_ + ": takes " + gb_text(bytes_) + ", the disk has " + gb_text(left) +
                    " left; choose another place");
  }
  if (too_large) return failed(error);
  if (retry_interrupted([&] { return ::ftruncate(descriptor_, bytes); }) != 0) return failed(errno);
  return {};
}

Status DirectFile::failed(int error) const {
  return io_error(path_ + ": reading or writing failed " + errno_text(error, kAnotherPlace));
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status DirectFile::give_up_direct() {
  direct_ = false;
  int flags = ::fcntl(descriptor_, F_GETFL);
  if (::fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT) != 0) return failed(errno);
  return {};
}

template <typename Move>
Status DirectFile::in_chunks(uint64_t offset, size_t bytes, const std::atomic<bool>& stop, const Move& move) {
  for (size_t done = 0; done < bytes;) {
    if (stop) return cancelled(path_ + ": stopped");
    ssize_t moved = move(done, std::min(bytes - done, kPieceBytes), static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    // Refused here, or after a chunk that ended in the middle of a sector.
    if (moved < 0 && errno == EINVAL && direct_) {
      LA_RETURN_IF_ERROR(give_up_direct());
      continue;
    }
    if (moved < 0) return failed(errno);
    if (moved == 0)
      return corrupt(path_ + ": ends at byte " + std::to_string(offset + done) + "; the file was cut off");
    done += static_cast<size_t>(moved);
  }
  return {};
}

Status DirectFile::read(uint64_t offset, void* target, size_t bytes, const std::atomic<bool>& stop) {
  LA_CHECK(offset % kAlign == 0 && bytes % kAlign == 0 && reinterpret_cast<uintptr_t>(target) % kAlign == 0);
  auto move = [&](size_t done, size_t chunk, off_t at) {
    return pread_(descriptor_, static_cast<char*>(target) + done, chunk, at);
  };
  LA_RETURN_IF_ERROR(in_chunks(offset, bytes, stop, move));
  if (!direct_) posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
  return {};
}

Status DirectFile::write(uint64_t offset, const void* from, size_t bytes, const std::atomic<bool>& stop) {
  LA_CHECK(offset % kAlign == 0 && bytes % kAlign == 0 && reinterpret_cast<uintptr_t>(from) % kAlign == 0);
  LA_CHECK(offset + bytes <= bytes_);
  auto move = [&](size_t done, size_t chunk, off_t at) {
    return pwrite_(descriptor_, static_cast<const char*>(from) + done, chunk, at);
  };
  LA_RETURN_IF_ERROR(in_chunks(offset, bytes, stop, move));
  if (direct_) return {};
  // Pages that are not on the disk yet cannot be dropped.
  off_t at = static_cast<off_t>(offset);
  off_t length = static_cast<off_t>(bytes);
  ::sync_file_range(descriptor_, at, length,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  posix_fadvise(descriptor_, at, length, POSIX_FADV_DONTNEED);
  return {};
}

}  // namespace liveavatar
