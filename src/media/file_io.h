// The named file and no other: FFmpeg reads and writes through a descriptor and never sees the name, in which it would
// find patterns ("%d", "[", "?"), protocols ("a:b") and lists of other files.
#pragma once

extern "C" {
#include <libavformat/avio.h>
}

#include <atomic>
#include <memory>
#include <string>

#include "core/disk_room.h"
#include "core/status.h"

namespace liveavatar {

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
  // `count` bytes from `offset`, as many as there are, and how many.
  int64_t read_at(void* to, int64_t offset, int64_t count) const;
  // The same, as a string.
  std::string bytes_at(int64_t offset, int64_t count) const;
  // Some of them; -1 with errno.
  ssize_t read_some(void* to, int64_t offset, size_t count) const;
  // An error if a read failed, or found the file shorter than it was. What was made of the rest is then worth nothing:
  // a decoder takes such a read for the end of a damaged file, and conceals it.
  Status status() const;

 private:
  ReadFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  void note(ssize_t got, int64_t offset) const;
  std::string path_;
  int fd_ = -1;
  int64_t opened_bytes_ = 0;
  mutable std::atomic<int> error_ = 0;  // of the first read that failed
  mutable std::atomic<bool> is_shorter_ = false;
};
using SharedFile = std::shared_ptr<const ReadFile>;

struct FreeIo {
  void operator()(AVIOContext* io) const;
};
using OwnedIo = std::unique_ptr<AVIOContext, FreeIo>;

// An open file that is written. FFmpeg does not see that one waits for room.
struct WriteFile {
  RoomyFile file;
  int fd = -1;
};

// From the file's position on; the file outlives it. Null: no memory.
OwnedIo io_to(WriteFile& file);

struct FreeReadIo {
  void operator()(AVIOContext* io) const;
};
using ReadIo = std::unique_ptr<AVIOContext, FreeReadIo>;

// Reads from the file's start at a position of its own, and holds the file. Null: no memory.
ReadIo io_of(SharedFile file);

}  // namespace liveavatar
