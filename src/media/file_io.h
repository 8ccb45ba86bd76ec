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

// `count` bytes of an open file from `offset`, as many as there are, and how many; does not move the position.
int64_t read_at(int descriptor, void* to, int64_t offset, int64_t count);
// The same, as a string.
std::string read_bytes_at(int descriptor, int64_t offset, int64_t count);

// A file that is open for reading, once, for everybody who asks about it: it has no position that moves, so any number
// of readers share it, on any thread. Closed with the last of them.
class ReadFile {
 public:
  // what: "an image", "audio". Errors: missing, a folder, a pipe, empty, not readable.
  static Expected<std::shared_ptr<const ReadFile>> open(const std::string& path, const std::string& what);
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;
  ~ReadFile();

  const std::string& path() const { return path_; }  // by which it was opened, for messages
  int fd() const { return fd_; }
  // Bytes of a regular file; 0 for a device.
  int64_t size() const;
  // `count` bytes from `offset`, as many as there are.
  std::string bytes_at(int64_t offset, int64_t count) const { return read_bytes_at(fd_, offset, count); }

 private:
  ReadFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;
};
using SharedFile = std::shared_ptr<const ReadFile>;

struct FreeIo {
  void operator()(AVIOContext* io) const;
};
using OwnedIo = std::unique_ptr<AVIOContext, FreeIo>;

// Writes to an open file, from its position. Null: no memory.
OwnedIo io_to(int descriptor);

struct FreeReadIo {
  void operator()(AVIOContext* io) const;
};
using ReadIo = std::unique_ptr<AVIOContext, FreeReadIo>;

// Reads from the file's start at a position of its own, and holds the file. Null: no memory.
ReadIo io_of(SharedFile file);

}  // namespace liveavatar
