// A file with direct I/O (O_DIRECT): large aligned chunks, directly into and out of the caller's memory.
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

  // For reading. If the file system does not support O_DIRECT, the page cache is used, and its pages are dropped.
  static Expected<std::unique_ptr<DirectFile>> open(const std::string& path, Pread pread = nullptr);
  // For writing and reading back: an unnamed file of `bytes` in `folder`, which ends with this object or the process.
  // The disk space is allocated here: kIo with the bytes wanted and free if there is not enough.
  static Expected<std::unique_ptr<DirectFile>> scratch(const std::string& folder, uint64_t bytes,
                                                       Pwrite pwrite = nullptr);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // Exactly `bytes` from `offset`. All three are aligned. kCancelled if `stop` is set, checked between two chunks.
  Status read(uint64_t offset, void* target, size_t bytes, const std::atomic<bool>& stop);
  Status write(uint64_t offset, const void* from, size_t bytes, const std::atomic<bool>& stop);
  bool direct() const { return direct_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  explicit DirectFile(std::string path) : path_(std::move(path)) {}
  // Calls `move(done, left)` until all bytes are transferred. move returns what pread returns.
  template <typename Move>
  Status in_chunks(uint64_t offset, size_t bytes, const std::atomic<bool>& stop, const Move& move);
  Status give_up_direct();
  Status failed(int error) const;
  Status allocate_space(const std::string& folder);

  std::string path_;
  Pread pread_ = nullptr;
  Pwrite pwrite_ = nullptr;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
  bool direct_ = true;
};

// "123.4 GB", or a smaller unit ("12.3 MB", "512 bytes"); and the free bytes of the disk of `folder`.
std::string gb_text(uint64_t bytes);
Expected<uint64_t> disk_left_bytes(const std::string& folder);

}  // namespace liveavatar
