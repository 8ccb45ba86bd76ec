// Global memory and its shadow: what is allocated, what was written, and which block of which launch touched it.
#pragma once

#include <map>
#include <string>

#include "backend/cuda/emulate/access.h"

namespace liveavatar::cuda::emulate {

struct GlobalByte {  // the last write, and the reads since
  uint16_t write_launch = 0, write_block = 0, read_launch = 0, read_block = 0;
};
inline constexpr uint16_t kSeveralBlocks = 0xffff;
inline constexpr unsigned kBlockNumbers = 0xfffe;  // blocks are numbered modulo this

class DeviceMemory {
 public:
  DeviceMemory();

  void* allocate(size_t bytes);
  void release(void* memory);
  void begin_launch();
  void set_accessible(bool yes);  // to the CPU; without effect unless protected
  void protect(bool yes);

  bool holds(const void* p) const { return size_t(p) - size_t(base_) < kBytes; }
  bool allocated(size_t offset, size_t bytes) const;
  size_t offset_of(const void* p) const { return size_t(p) - size_t(base_); }
  GlobalByte& shadow(size_t offset) { return shadow_[offset]; }
  uint16_t launch() const { return launch_; }
  void written_by_host(size_t offset, size_t bytes);
  std::string describe(size_t offset) const;  // "12 bytes behind the end of an allocation of 400 bytes"

 private:
  static constexpr size_t kBytes = size_t(1) << 40;  // addresses, not memory
  static constexpr size_t kGranule = 16;

  std::byte* base_;
  uint8_t* valid_;      // of each granule: how many bytes from the first on are allocated
  GlobalByte* shadow_;  // one for each byte
  size_t used_;
  uint16_t launch_;
  std::map<size_t, size_t> allocations_;  // offset -> bytes
  bool protected_ = false;
};
DeviceMemory& device_memory();

void check_allocated(const DeviceMemory& memory, const Access& access);
// The kernel is instrumented: also written, and free of races with other blocks.
void check_global(DeviceMemory& memory, uint16_t block_number, const Access& access);

}  // namespace liveavatar::cuda::emulate
