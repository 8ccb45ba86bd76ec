#include "backend/cuda/emulate/shared_memory.h"

#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace liveavatar::cuda::emulate {
namespace {

constexpr uint16_t kThread = 0x3ff;                            // of SharedByte::writer and reader
constexpr uint16_t kAtomicWrite = 0x4000, kInFlight = 0x8000;  // of SharedByte::writer
constexpr uint16_t kManyLanes = 0x4000, kManyWarps = 0x8000;   // of SharedByte::reader: others read it, too

size_t allocate_shared(Processor& p, const void* key, size_t bytes) {
  constexpr size_t kAlignment = 128, kGap = 128;  // the gap is there to notice overruns
  const size_t offset = (p.shared_used + kAlignment - 1) / kAlignment * kAlignment;
  if (offset + bytes > kLimits.shared_bytes) fail_at("more shared memory than a card has", "a static variable");
  p.shared_used = offset + bytes + kGap;
  p.shared_variables.push_back({key, offset, bytes});
  ASAN_UNPOISON_MEMORY_REGION(p.shared + offset, bytes);
  std::memset(p.shared + offset, 0xff, bytes);  // NaN for whoever reads before writing
  return offset;
}

uint16_t writer_flag(const Access& access) {
  if (access.kind == AccessKind::kAtomic) return kAtomicWrite;
  return access.kind == AccessKind::kAsyncWrite ? kInFlight : 0;
}

// The current access to one byte of shared memory.
struct ByteAccess {
  const Processor& p;
  const Access& access;
  size_t offset;

  const Lane& lane() const { return *p.current; }
  std::string byte() const { return "(byte " + std::to_string(offset) + ")"; }

  void check_written(const SharedByte& b) const {
    const unsigned writer = b.writer & kThread;
    if (b.write_epoch < p.block_epoch) {
      if (!access.writes() || access.kind == AccessKind::kAtomic)
        fail("reads shared memory that nobody wrote " + byte(), access.place);
      return;
    }
    if (b.writer & kInFlight)
      fail("touches shared memory that thread " + std::to_string(writer) + " is still copying into (no wait)",
           access.place);
    if (b.write_epoch != p.epoch || writer == lane().thread) return;
    if ((b.writer & kAtomicWrite) && access.kind == AccessKind::kAtomic) return;
    if (writer / kLanes == lane().warp_number() && b.write_warp_epoch != lane().warp->epoch) return;
    fail(access.verb() + " shared memory " + byte() + " that thread " + std::to_string(writer) +
             " wrote since the last barrier",
         access.place);
  }

  void check_read(const SharedByte& b) const {
    if (b.read_epoch != p.epoch) return;
    const unsigned reader = b.reader & kThread;
    const bool same_warp = !(b.reader & kManyWarps) && reader / kLanes == lane().warp_number();
    const bool by_others = (b.reader & kManyLanes) || reader != lane().thread;
    if (same_warp && (b.read_warp_epoch != lane().warp->epoch || !by_others)) return;
    fail("writes shared memory " + byte() + " that thread " + std::to_string(reader) + " read since the last barrier",
         access.place);
  }

  void record_write(SharedByte& b) const {
    b.write_epoch = p.epoch;
    b.writer = uint16_t(lane().thread | writer_flag(access));
    b.write_warp_epoch = lane().warp->epoch;
  }

  void record_read(SharedByte& b) const {
    const uint16_t now = lane().warp->epoch;
    if (b.read_epoch == p.epoch) {
      const unsigned reader = b.reader & kThread;
      if (reader == lane().thread && b.read_warp_epoch == now) return;
      uint16_t flags = b.reader & (kManyLanes | kManyWarps);
      if (reader / kLanes != lane().warp_number()) flags |= kManyWarps;
      if (b.read_warp_epoch != now) {
        flags &= uint16_t(~kManyLanes);  // __syncwarp came between
      } else if (reader != lane().thread) {
        flags |= kManyLanes;
      }
      b.reader = uint16_t(lane().thread | flags);
    } else {
      b.reader = lane().thread;
    }
    b.read_epoch = p.epoch;
    b.read_warp_epoch = now;
  }
};

void check_inside(const Processor& p, size_t offset, const Access& access) {
  for (const SharedVariable& v : p.shared_variables) {
    if (offset >= v.offset && offset + access.bytes <= v.offset + v.bytes) return;
  }
  fail("outside of shared memory (byte " + std::to_string(offset) + " of the block's)", access.place);
}

}  // namespace

void begin_shared(Processor& p) {
  ASAN_POISON_MEMORY_REGION(p.shared, kSharedRangeBytes);
  p.shared_variables.clear();
  p.shared_used = 0;
  allocate_shared(p, nullptr, p.job.shared_bytes);
}

void check_shared(Processor& p, const Access& access) {
  const size_t first = size_t(access.at) - size_t(p.shared);
  check_inside(p, first, access);
  for (size_t i = first; i < first + access.bytes; ++i) {
    SharedByte& byte = p.shared_shadow[i];
    const ByteAccess now{p, access, i};
    now.check_written(byte);
    if (access.writes()) {
      now.check_read(byte);
      now.record_write(byte);
    } else {
      now.record_read(byte);
    }
  }
}

void land_in_shared(Processor& p, const std::byte* at, size_t bytes) {
  const Access access{at, bytes, AccessKind::kWrite, Place(nullptr)};
  for (size_t i = size_t(at - p.shared); i < size_t(at - p.shared) + bytes; ++i)
    ByteAccess{p, access, i}.record_write(p.shared_shadow[i]);
}

void* dynamic_shared() { return running->shared; }

void* static_shared(const void* key, size_t bytes) {
  Processor& p = *running;
  for (const SharedVariable& v : p.shared_variables) {
    if (v.key == key) return p.shared + v.offset;
  }
  return p.shared + allocate_shared(p, key, bytes);
}

}  // namespace liveavatar::cuda::emulate
