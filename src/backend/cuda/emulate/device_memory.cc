#include "backend/cuda/emulate/device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "backend/cuda/emulate/address_range.h"
#include "backend/cuda/emulate/processor.h"

namespace liveavatar::cuda::emulate {
namespace {

constexpr size_t kAlignment = 256, kPage = 4096;
constexpr uint16_t kByHost = 1;  // a launch number: writes of the host

// Whole pages of a range: zeros from now on, and no memory.
void discard_pages(void* from, size_t bytes) {
  const size_t before = (kPage - size_t(from) % kPage) % kPage;
  if (bytes < before + kPage) return;
  madvise(static_cast<std::byte*>(from) + before, (bytes - before) / kPage * kPage, MADV_DONTNEED);
}

}  // namespace

DeviceMemory& device_memory() {
  static DeviceMemory memory;
  return memory;
}

DeviceMemory::DeviceMemory()
    : base_(reserve_addresses(kBytes)),
      valid_(reinterpret_cast<uint8_t*>(reserve_addresses(kBytes / kGranule))),
      shadow_(reinterpret_cast<GlobalByte*>(reserve_addresses(kBytes * sizeof(GlobalByte)))),
      used_(kAlignment),
      launch_(kByHost) {}

void* DeviceMemory::allocate(size_t bytes) {
  const size_t offset = used_;
  if (bytes > kBytes || offset + bytes + 2 * kAlignment > kBytes) throw std::bad_alloc();
  used_ = (offset + bytes + 2 * kAlignment - 1) / kAlignment * kAlignment;  // a gap, to notice overruns
  std::memset(valid_ + offset / kGranule, kGranule, bytes / kGranule);
  if (bytes % kGranule != 0) valid_[(offset + bytes) / kGranule] = uint8_t(bytes % kGranule);
  allocations_[offset] = bytes;
  set_accessible(false);
  return base_ + offset;
}

void DeviceMemory::release(void* memory) {
  if (memory == nullptr) return;
  const size_t offset = offset_of(memory);
  const auto found = allocations_.find(offset);
  if (found == allocations_.end()) throw Fault("release of what was not allocated");
  std::memset(valid_ + offset / kGranule, 0, (found->second + kGranule - 1) / kGranule);
  discard_pages(base_ + offset, found->second);
  discard_pages(shadow_ + offset, found->second * sizeof(GlobalByte));
  allocations_.erase(found);
}

void DeviceMemory::begin_launch() {
  ++launch_;
  if (launch_ != 0) return;
  // All numbers were used: forget who wrote, keep that it was written.
  if (is_tracing()) {
    for (const auto& [offset, bytes] : allocations_) {
      for (size_t i = offset; i < offset + bytes; ++i)
        shadow_[i] = {uint16_t(shadow_[i].write_launch != 0 ? kByHost : 0), 0, 0, 0};
    }
  }
  launch_ = kByHost + 1;
}

void DeviceMemory::set_accessible(bool yes) {
  if (protected_) mprotect(base_, (used_ + kPage - 1) / kPage * kPage, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void DeviceMemory::protect(bool yes) {
  set_accessible(true);
  protected_ = yes;
  set_accessible(false);
}

bool DeviceMemory::allocated(size_t offset, size_t bytes) const {
  const size_t end = offset + bytes;
  while (offset < end) {
    const size_t granule = offset / kGranule, last = std::min(end, (granule + 1) * kGranule);
    if (valid_[granule] < last - granule * kGranule) return false;
    offset = last;
  }
  return true;
}

void DeviceMemory::written_by_host(size_t offset, size_t bytes) {
  if (is_tracing()) std::fill_n(shadow_ + offset, bytes, GlobalByte{kByHost, 0, 0, 0});
}

std::string DeviceMemory::describe(size_t offset) const {
  const auto next = allocations_.upper_bound(offset);
  if (next == allocations_.begin()) return "before all allocations";
  const auto [start, bytes] = *std::prev(next);
  const std::string allocation = " an allocation of " + std::to_string(bytes) + " bytes";
  if (offset < start + bytes) return "at byte " + std::to_string(offset - start) + " of" + allocation;
  return std::to_string(offset - start - bytes) + " bytes behind the end of" + allocation;
}

void check_allocated(const DeviceMemory& memory, const Access& access) {
  const size_t first = memory.offset_of(access.at), last = first + access.bytes - 1;
  if (memory.allocated(first, access.bytes)) return;
  fail(access.verb() + " " + std::to_string(access.bytes) + " bytes of global memory " +
           memory.describe(memory.allocated(first, 1) ? last : first),
       access.place);
}

void check_global(DeviceMemory& memory, uint16_t block_number, const Access& access) {
  check_allocated(memory, access);
  const uint16_t launch = memory.launch();
  const bool atomic = access.kind == AccessKind::kAtomic;
  const size_t first = memory.offset_of(access.at);
  for (size_t i = first; i < first + access.bytes; ++i) {
    GlobalByte& b = memory.shadow(i);
    if (!access.writes() && b.write_launch == 0)
      fail("reads global memory that nobody wrote, " + memory.describe(i), access.place);
    if (b.write_launch == launch && b.write_block != block_number && !atomic)
      fail(access.verb() + " global memory that block " + std::to_string(b.write_block) +
               " writes in the same launch, " + memory.describe(i),
           access.place);
    const bool read_by_others = b.read_launch == launch && b.read_block != block_number;
    if (access.writes()) {
      if (read_by_others && !atomic)
        fail("writes global memory that another block reads in the same launch, " + memory.describe(i), access.place);
      b.write_launch = launch;
      b.write_block = block_number;
    } else {
      b.read_block = read_by_others ? kSeveralBlocks : block_number;
      b.read_launch = launch;
    }
  }
}

// ---- The host's side ----

namespace {

size_t checked_offset(const void* device, size_t bytes) {
  const DeviceMemory& memory = device_memory();
  const size_t offset = memory.offset_of(device);
  if (!memory.holds(device) || !memory.allocated(offset, bytes)) throw Fault("a copy or fill beyond device memory");
  return offset;
}

}  // namespace

void* allocate(size_t bytes) { return device_memory().allocate(bytes); }
void release(void* memory) { device_memory().release(memory); }

void copy_to_device(void* device, const void* host, size_t bytes) {
  if (bytes == 0) return;
  const size_t offset = checked_offset(device, bytes);
  device_memory().set_accessible(true);
  std::memcpy(device, host, bytes);
  device_memory().set_accessible(false);
  device_memory().written_by_host(offset, bytes);
}
void fill(void* device, int byte, size_t bytes) {
  const size_t offset = checked_offset(device, bytes);
  device_memory().set_accessible(true);
  std::memset(device, byte, bytes);
  device_memory().set_accessible(false);
  device_memory().written_by_host(offset, bytes);
}
void poison(void* device, int byte, size_t bytes) {
  checked_offset(device, bytes);
  device_memory().set_accessible(true);
  std::memset(device, byte, bytes);
  device_memory().set_accessible(false);
}
void copy_to_host(void* host, const void* device, size_t bytes) {
  if (bytes == 0) return;
  checked_offset(device, bytes);
  device_memory().set_accessible(true);
  std::memcpy(host, device, bytes);
  device_memory().set_accessible(false);
}
void protect_from_host(bool yes) { device_memory().protect(yes); }

}  // namespace liveavatar::cuda::emulate
