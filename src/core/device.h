// Devices: the memory that a tensor is in, its allocator, and the queue of the device's work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/rounding.h"
#include "core/status.h"

namespace liveavatar {

struct Device {
  // kTest: for tests, memory that the host cannot access (tests/support/test_device.h).
  enum class Kind : uint8_t { kHost, kCuda, kTest };
  Kind kind = Kind::kHost;
  uint8_t index = 0;
  bool is_host() const { return kind == Kind::kHost; }
  bool operator==(const Device&) const = default;
  std::string str() const;  // "host", "cuda:0"
};

// Copies between a device's memory and host memory of Allocator::staging(): in order with each other, and with nobody's
// work. One thread at a time.
class CopyQueue {
 public:
  virtual ~CopyQueue() = default;  // waits for all copies
  // They may return before the copy is done.
  virtual void write(std::byte* to, const std::byte* host, size_t bytes) = 0;
  virtual void read(const std::byte* from, std::byte* host, size_t bytes) = 0;
  // Waits for all copies. Returns the first failure: what was copied after it is undefined.
  virtual Status finish() = 0;
};

// Memory of one device. Thread-safe. Outlives its allocations.
class Allocator {
 public:
  static constexpr size_t kPageBytes = 4096;
  virtual ~Allocator() = default;
  virtual Device device() const = 0;
  // What an allocation of `bytes` takes.
  virtual size_t taken_bytes(size_t bytes) const { return round_up(bytes, kPageBytes); }
  // Aligned to 4096 bytes. Host memory is zeroed, other memory is uninitialised. kOutOfMemory: the message has a
  // suggestion.
  virtual Expected<std::byte*> allocate(size_t bytes) = 0;
  // Waits until all work that the device was given is done.
  virtual void free(std::byte* memory, size_t bytes) = 0;
  // Synchronous copies from and to host memory. They do not wait for the device's work: the caller guarantees that
  // no work uses these bytes.
  virtual Status write(std::byte* to, const void* host, size_t bytes) = 0;
  virtual Status read(const std::byte* from, void* host, size_t bytes) = 0;

  // Allocates host memory that this device copies from and to at full speed while others work (pinned). Uninitialised.
  virtual Allocator& staging();
  virtual Expected<std::unique_ptr<CopyQueue>> open_copies();  // the allocator outlives it
};

// Pages of the system (mmap), unmapped when they are freed, so resident memory follows the budget.
Allocator& host_allocator();

// A point in the order of a device's work. The default one is complete.
struct Event {
  uint64_t ticket = 0;
};

// The queue in which a device does its work in order.
class WorkQueue {
 public:
  virtual ~WorkQueue() = default;
  // After all work enqueued so far.
  virtual Event record() = 0;
  // Blocks until the work before the event is done. Thread-safe.
  virtual void wait(Event event) = 0;
};

// A host does its work at once: all events are complete.
WorkQueue& host_queue();

}  // namespace liveavatar
