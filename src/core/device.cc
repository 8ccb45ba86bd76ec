#include "core/device.h"

#include <sys/mman.h>

#include <cstring>

namespace liveavatar {
namespace {

class HostAllocator : public Allocator {
 public:
  Device device() const override { return {}; }

  Expected<std::byte*> allocate(size_t bytes) override {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      return out_of_memory("close other programs, raise the limit (ulimit -v) or choose a smaller memory budget");
    madvise(memory, bytes, MADV_HUGEPAGE);  // if the system allows it: fewer page faults and TLB misses
    return static_cast<std::byte*>(memory);
  }

  void free(std::byte* memory, size_t bytes) override { munmap(memory, bytes); }

  Status write(std::byte* to, const void* host, size_t bytes) override {
    std::memcpy(to, host, bytes);
    return {};
  }
  Status read(const std::byte* from, void* host, size_t bytes) override {
    std::memcpy(host, from, bytes);
    return {};
  }
};

// Copies that are done on return.
class PromptCopies : public CopyQueue {
 public:
  explicit PromptCopies(Allocator& allocator) : allocator_(allocator) {}
  void write(std::byte* to, const std::byte* host, size_t bytes) override {
    if (status_.ok()) status_ = allocator_.write(to, host, bytes);
  }
  void read(const std::byte* from, std::byte* host, size_t bytes) override {
    if (status_.ok()) status_ = allocator_.read(from, host, bytes);
  }
  Status finish() override { return status_; }

 private:
  Allocator& allocator_;
  Status status_;
};

class HostQueue : public WorkQueue {
 public:
  Event record() override { return {}; }
  void wait(Event) override {}
};

}  // namespace

Allocator& Allocator::staging() { return host_allocator(); }

Expected<std::unique_ptr<CopyQueue>> Allocator::open_copies() {
  return std::unique_ptr<CopyQueue>(std::make_unique<PromptCopies>(*this));
}

WorkQueue& host_queue() {
  static HostQueue queue;
  return queue;
}

Allocator& host_allocator() {
  static HostAllocator allocator;
  return allocator;
}

std::string Device::str() const {
  constexpr const char* kNames[] = {"host", "cuda", "test"};
  std::string name = kNames[static_cast<size_t>(kind)];
  return is_host() ? name : name + ":" + std::to_string(index);
}

}  // namespace liveavatar
