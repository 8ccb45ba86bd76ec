// A file read and written past the page cache: large aligned pieces, straight into and out of the caller's memory.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/rounding.h"
#include "core/status.h"

namespace liveavatar {

class DirectFile {
 public:
  static constexpr size_t kAlign = 4096;  // of offsets, sizes and memory
  static constexpr uint64_t round_up(uint64_t bytes) { return liveavatar::round_up(bytes, kAlign); }
  using Pread = ssize_t (*)(int, void*, size_t, off_t);         // ::pread, or a test's
  using Pwrite = ssize_t (*)(int, const void*, size_t, off_t);  // ::pwrite, or a test's

  // To read. Where the file system refuses O_DIRECT, the page cache is used after all, and told to keep nothing.
  static Expected<std::unique_ptr<DirectFile>> open(const std::string& path, Pread pread = nullptr);
  // To write and read back: `bytes` of a nameless file in `folder`, gone with this object or with the process. Its room
  // on the disk is taken now: kIo with what is wanted and what is free if there is none.
  static Expected<std::unique_ptr<DirectFile>> scratch(const std::string& folder, uint64_t bytes,
                                                       Pwrite pwrite = nullptr);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // Exactly `bytes` from `offset`. All three aligned. kCancelled as soon as `stop` is set, between two pieces.
  Status read(uint64_t offset, void* target, size_t bytes, const std::atomic<bool>& stop);
  Status write(uint64_t offset, const void* from, size_t bytes, const std::atomic<bool>& stop);
  bool direct() const { return direct_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  explicit DirectFile(std::string path) : path_(std::move(path)) {}
  // Calls `move(begun, left)` until all bytes went through; it returns what a pread does.
  template <typename Move>
  Status in_pieces(uint64_t offset, size_t bytes, const std::atomic<bool>& stop, const Move& move);
  Status give_up_direct();
  Status take_room(const std::string& folder);

  std::string path_;
  Pread pread_ = nullptr;
  Pwrite pwrite_ = nullptr;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
  bool direct_ = true;
};

// "123.4 GB", or in the unit below that shows it ("12.3 MB", "512 bytes"); and the bytes that `folder`'s disk has left.
std::string gb_text(uint64_t bytes);
Expected<uint64_t> disk_left_bytes(const std::string& folder);

}  // namespace liveavatar
