#include "backend/cuda/copies.h"

#include "backend/cuda/device.h"
#include "core/size_text.h"

namespace liveavatar::cuda {

Expected<std::byte*> PinnedAllocator::allocate(size_t bytes) {
  void* memory = nullptr;
  const int error = device_.runtime().allocate_pinned(&memory, bytes);
  if (error == 0) return static_cast<std::byte*>(memory);
  if (error != Runtime::kOutOfMemory) {
    device_.check(error, "allocating pinned memory");
    return device_.status();
  }
  return out_of_memory(device_.device().str() + ": the driver pins no " + mib(bytes) +
                       " of host memory; choose a smaller `host_budget_bytes`");
}

void PinnedAllocator::free(std::byte* memory, size_t) {
  device_.check(device_.runtime().release_pinned(memory), "freeing pinned memory");
}

Status PinnedAllocator::write(std::byte* to, const void* host, size_t bytes) {
  return host_allocator().write(to, host, bytes);
}

Status PinnedAllocator::read(const std::byte* from, void* host, size_t bytes) {
  return host_allocator().read(from, host, bytes);
}

void StreamCopies::write(std::byte* to, const std::byte* host, size_t bytes) {
  if (device_.failed()) return;
  device_.check(device_.runtime().enqueue_write(to, host, bytes, stream_.get()), "a copy to the device");
}

void StreamCopies::read(const std::byte* from, std::byte* host, size_t bytes) {
  if (device_.failed()) return;
  device_.check(device_.runtime().enqueue_read(from, host, bytes, stream_.get()), "a copy from the device");
}

Status StreamCopies::finish() {
  device_.check(device_.runtime().synchronize(stream_.get()), "copies");
  return device_.status();
}

}  // namespace liveavatar::cuda
