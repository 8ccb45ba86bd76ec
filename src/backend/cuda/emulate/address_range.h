// Addresses that become memory, zeroed, where they are first touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace liveavatar::cuda::emulate {

inline std::byte* reserve_addresses(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(p);
}

}  // namespace liveavatar::cuda::emulate
