// Who owns bytes. Every long-lived allocation is a Buffer charged to a tenant of a Budget;
// an Arena hands out pieces of one Buffer. Models never allocate while they run.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>

#include "core/status.h"
#include "core/tensor.h"

namespace liveavatar {

enum class Tenant { kWeights, kKvCache, kConditioning, kActivations, kVae, kText, kAudio, kMedia, kRuntime };
constexpr size_t kTenantCount = 9;
const char* tenant_name(Tenant t);  // "weights", "kv_cache", ...

using TenantBytes = std::array<size_t, kTenantCount>;

// Byte limit of one device, whose memory it gives out, with usage by tenant. Thread-safe. Must outlive its Buffers.
class Budget {
 public:
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();
  explicit Budget(size_t limit_bytes = kUnlimited) : limit_bytes_(limit_bytes) {}
  // host: where memory is taken that the host works in beside this device. Both outlive this.
  Budget(size_t limit_bytes, Allocator& allocator, Budget& host)
      : limit_bytes_(limit_bytes), allocator_(&allocator), host_(&host) {}
  // A budget that only counts: its Buffers have a size and no memory. The memory plan runs the engine's own
  // allocations over one, so that prediction and truth come from the same lines.
  struct Measuring {};
  explicit Budget(Measuring) : measuring_(true) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // kOutOfMemory names tenant, wanted and left.
  Status charge(Tenant tenant, size_t bytes);
  void release(Tenant tenant, size_t bytes);

  bool measuring() const { return measuring_; }
  Allocator& allocator() const { return *allocator_; }
  Device device() const { return allocator_->device(); }
  Budget& host() { return host_ == nullptr ? *this : *host_; }  // itself where the device is the host
  size_t limit_bytes() const { return limit_bytes_; }
  size_t used_bytes() const { return used_bytes_.load(); }
  size_t used_bytes(Tenant t) const { return by_tenant_[static_cast<size_t>(t)].load(); }
  size_t peak_bytes() const { return peak_bytes_.load(); }
  // The peak since the last restart: of one stage of a run.
  void restart_recent_peak() { recent_peak_bytes_ = used_bytes_.load(); }
  size_t recent_peak_bytes() const { return recent_peak_bytes_.load(); }
  TenantBytes used_by_tenant() const;
  TenantBytes peak_by_tenant() const;  // each at its own highest; they need not have been so at one time

 private:
  size_t limit_bytes_ = kUnlimited;
  bool measuring_ = false;
  Allocator* allocator_ = &host_allocator();
  Budget* host_ = nullptr;
  std::atomic<size_t> used_bytes_{0}, peak_bytes_{0}, recent_peak_bytes_{0};
  std::array<std::atomic<size_t>, kTenantCount> by_tenant_{}, tenant_peaks_{};
};

// Charges memory that somebody else owns (a library's, a vector's) for as long as it lives. Movable.
class Charge {
 public:
  Charge() = default;
  static Expected<Charge> take(Budget& budget, Tenant tenant, size_t bytes);
  Charge(Charge&& other) noexcept { swap(other); }
  Charge& operator=(Charge&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Charge() {
    if (budget_ != nullptr) budget_->release(tenant_, bytes_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(Charge& other);
  Budget* budget_ = nullptr;
  Tenant tenant_ = Tenant::kRuntime;
  size_t bytes_ = 0;
};

// Page-aligned memory of the budget's device, charged to its tenant for as long as it lives. Movable. Host memory is
// zeroed.
class Buffer {
 public:
  static constexpr size_t kPageBytes = 4096;  // sizes are rounded up to this
  Buffer() = default;
  static Expected<Buffer> allocate(Budget& budget, Tenant tenant, size_t bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_; }  // null: empty, or charged to a measuring budget
  Device device() const { return allocator_->device(); }
  size_t bytes() const { return charge_.bytes(); }

 private:
  void swap(Buffer& other);
  std::byte* data_ = nullptr;
  Allocator* allocator_ = &host_allocator();
  Charge charge_;
};

// Hands out 64-byte aligned tensors front to back. A measuring arena has no memory and only counts, so that one
// function both sizes and lays out a model's activations:  Arena m; Activations(config, m); m.used_bytes().
class Arena {
 public:
  Arena() = default;  // measuring: tensors have data == nullptr
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)), measuring_(buffer_.data() == nullptr) {}
  static Expected<Arena> allocate(Budget& budget, Tenant tenant, size_t bytes);

  Tensor tensor(Shape shape, DType dtype);  // asserts that it fits: the size was measured by the same function
  void* take(size_t bytes);
  bool measuring() const { return measuring_; }
  size_t used_bytes() const { return offset_; }
  void restart() { offset_ = 0; }  // from the front again, over what was handed out

 private:
  Buffer buffer_;
  size_t offset_ = 0;
  bool measuring_ = true;
};

// A tensor with its own Buffer; for inputs and outputs that live outside any arena.
struct OwnedTensor {
  Buffer buffer;
  Tensor tensor;
  static Expected<OwnedTensor> allocate(Budget& budget, Tenant tenant, Shape shape, DType dtype);
};

}  // namespace liveavatar
