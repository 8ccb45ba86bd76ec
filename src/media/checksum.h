// Checksums by FFmpeg.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace liveavatar {

// MurmurHash3, 128 bits: tells damage, not intent.
class Checksum {
 public:
  using Value = std::array<uint8_t, 16>;
  Checksum();  // throws std::bad_alloc
  void add(std::span<const std::byte> bytes);
  // Of all bytes since the last end().
  Value end();

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> state_;
};

}  // namespace liveavatar
