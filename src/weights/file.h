// A file that stays open and is read at offsets, from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

namespace liveavatar {

class File {
 public:
  // Regular files only; errors name the path and the system's reason.
  static Expected<std::shared_ptr<const File>> open(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Exactly `bytes` bytes from `offset`. Fewer bytes in the file are an error.
  Status read(uint64_t offset, void* target, size_t bytes) const;
  uint64_t bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  File(int descriptor, uint64_t bytes, std::string path)
      : descriptor_(descriptor), bytes_(bytes), path_(std::move(path)) {}
  int descriptor_;
  uint64_t bytes_;
  std::string path_;
};

}  // namespace liveavatar
