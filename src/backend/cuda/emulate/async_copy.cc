// cp.async: a copy is in flight from its issue until the wait of its thread, and only then are its bytes there.
#include <cstring>

#include "backend/cuda/emulate/device_memory.h"
#include "backend/cuda/emulate/processor.h"
#include "backend/cuda/emulate/shared_memory.h"

namespace liveavatar::cuda::emulate {

void copy_async(void* shared, const void* global, unsigned bytes, unsigned valid, Where where) {
  Processor& p = *running;
  Lane& self = *p.current;
  if (valid > bytes) fail("cp.async of more than it copies", where);
  if (size_t(global) % bytes != 0) fail("cp.async from an address that is not aligned", where);
  if (!p.in_shared(shared)) fail("cp.async to what is not shared memory", where);
  if (valid > 0) {
    DeviceMemory& memory = device_memory();
    if (!memory.holds(global)) fail("cp.async from what is not global memory", where);
    const Access read{global, valid, AccessKind::kRead, where};
    if (is_tracing()) {
      check_global(memory, p.block_number, read);
    } else {
      check_allocated(memory, read);
    }
  }
  check_access({shared, bytes, AccessKind::kAsyncWrite, where});
  std::memset(shared, 0xff, bytes);  // NaN for whoever reads before the wait
  self.copies.push_back(
      {static_cast<std::byte*>(shared), static_cast<const std::byte*>(global), bytes, valid, self.committed_groups});
}

void commit_copies() { ++running->current->committed_groups; }

void wait_copies(unsigned groups_left) {
  Processor& p = *running;
  Lane& self = *p.current;
  std::ptrdiff_t landed = 0;
  for (const AsyncCopy& copy : self.copies) {
    if (copy.group + groups_left >= self.committed_groups) break;
    if (copy.valid > 0) std::memcpy(copy.to, copy.from, copy.valid);
    std::memset(copy.to + copy.valid, 0, copy.bytes - copy.valid);
    land_in_shared(p, copy.to, copy.bytes);
    ++landed;
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + landed);
}

}  // namespace liveavatar::cuda::emulate
