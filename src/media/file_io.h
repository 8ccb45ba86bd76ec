// The named file and no other: FFmpeg reads and writes through a descriptor and never sees the name, in which it would
// find patterns ("%d", "[", "?"), protocols ("a:b") and lists of other files.
#pragma once

extern "C" {
#include <libavformat/avio.h>
}

#include <memory>
#include <string>

#include "core/status.h"

namespace liveavatar {

// `count` bytes of an open file from `offset`, as many as there are. Does not move the position.
std::string read_bytes_at(int descriptor, int64_t offset, int64_t count);

// A file that is open for reading. Closes itself; movable.
class ReadFile {
 public:
  // what: "a picture", "a sound". Errors: missing, a folder, empty, not readable.
  static Expected<ReadFile> open(const std::string& path, const std::string& what);
  ReadFile(ReadFile&& other) noexcept { std::swap(fd_, other.fd_); }
  ReadFile& operator=(ReadFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~ReadFile();

  int fd() const { return fd_; }
  // Bytes of a regular file; 0 for a pipe or a device.
  int64_t size() const;
  // `count` bytes from `offset`, as many as there are. Does not move the position.
  std::string bytes_at(int64_t offset, int64_t count) const;

 private:
  explicit ReadFile(int fd) : fd_(fd) {}
  int fd_ = -1;
};

struct FreeIo {
  void operator()(AVIOContext* io) const;
};
using OwnedIo = std::unique_ptr<AVIOContext, FreeIo>;

// Writes to an open file, from its position. Null: no memory.
OwnedIo io_to(int descriptor);

// Reads from the file's position. The file must outlive it. Null: no memory.
OwnedIo io_of(const ReadFile& file);

}  // namespace liveavatar
