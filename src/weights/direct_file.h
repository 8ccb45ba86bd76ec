// A file read past the page cache: large aligned pieces, straight into the reader's memory.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

namespace liveavatar {

class DirectFile {
 public:
  static constexpr size_t kAlign = 4096;  // of offsets, sizes and memory
  static constexpr uint64_t round_up(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
  using Pread = ssize_t (*)(int, void*, size_t, off_t);  // ::pread, or a test's

  // Where the file system refuses O_DIRECT, reads go through the page cache, which is told to keep nothing.
  static Expected<std::unique_ptr<DirectFile>> open(const std::string& path, Pread pread = nullptr);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // Exactly `bytes` from `offset`. All three aligned. kCancelled as soon as `stop` is set, between two pieces.
  Status read(uint64_t offset, void* target, size_t bytes, const std::atomic<bool>& stop);
  bool direct() const { return direct_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  DirectFile(std::string path, Pread pread) : path_(std::move(path)), pread_(pread) {}
  Status give_up_direct();

  std::string path_;
  Pread pread_;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
  bool direct_ = true;
};

}  // namespace liveavatar
