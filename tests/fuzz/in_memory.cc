#include "in_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace liveavatar::fuzz {

MemoryFile::MemoryFile(const uint8_t* data, size_t bytes, const std::string& name) {
  descriptor_ = memfd_create("fuzz", 0);
  bool written = descriptor_ >= 0 && write(descriptor_, data, bytes) == static_cast<ssize_t>(bytes);
  if (!written) {
    std::perror("fuzz: memfd_create");
    std::abort();
  }
  path_ = folder_.file(name);
  std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(descriptor_), path_);
}

MemoryFile::~MemoryFile() { close(descriptor_); }

}  // namespace liveavatar::fuzz
