// A file in memory, under a path that the readers can open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "support/temp_dir.h"

namespace liveavatar::fuzz {

class MemoryFile {
 public:
  // name: of the file, in a folder of its own.
  MemoryFile(const uint8_t* data, size_t bytes, const std::string& name);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }
  std::string folder() const { return folder_.string(); }

 private:
  int descriptor_ = -1;
  TempDir folder_;
  std::string path_;
};

}  // namespace liveavatar::fuzz
