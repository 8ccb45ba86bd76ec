// A file that lies in memory, under a path that the readers can open.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace liveavatar::fuzz {

class MemoryFile {
 public:
  // name: of the file, in a folder of this process.
  MemoryFile(const uint8_t* data, size_t bytes, const std::string& name);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }
  const std::string& folder() const { return folder_; }

 private:
  int descriptor_ = -1;
  std::string folder_, path_;
};

}  // namespace liveavatar::fuzz
