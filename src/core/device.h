// Devices: whose memory a tensor lies in, who gives that memory out, and how far the work on it has come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/status.h"

namespace liveavatar {

struct Device {
  // kTest: of the tests, memory that the host cannot touch (tests/support/test_device.h).
  enum class Kind : uint8_t { kHost, kCuda, kTest };
  Kind kind = Kind::kHost;
  uint8_t index = 0;
  bool is_host() const { return kind == Kind::kHost; }
  bool operator==(const Device&) const = default;
  std::string str() const;  // "host", "cuda:0"
};

// Memory of one device. Thread-safe; outlives what it gave out.
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual Device device() const = 0;
  // Aligned to 4096 bytes. Host memory is zeroed, other memory holds anything. kOutOfMemory says what the system has.
  virtual Expected<std::byte*> allocate(size_t bytes) = 0;
  // Once all work that was given to the device is done.
  virtual void free(std::byte* memory, size_t bytes) = 0;
  // Copies from and to host memory, done on return. They do not wait for the device's work: the caller knows that
  // none of it touches these bytes.
  virtual Status write(std::byte* to, const void* host, size_t bytes) = 0;
  virtual Status read(const std::byte* from, void* host, size_t bytes) = 0;
};

// Pages of the system (mmap), given back when they are freed, so that resident memory follows the budget.
Allocator& host_allocator();

// A point in the order of a device's work. The default one is long past.
struct Event {
  uint64_t ticket = 0;
};

// The order in which a device does the work that it is given.
class WorkQueue {
 public:
  virtual ~WorkQueue() = default;
  // Behind all work given so far.
  virtual Event record() = 0;
  // Blocks until the work before the event is done. Any thread.
  virtual void wait(Event event) = 0;
};

// Of a host whose work is done when it was asked for.
WorkQueue& host_queue();

}  // namespace liveavatar
