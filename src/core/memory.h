// Ownership of memory. Every long-lived allocation is a Buffer, charged to a memory category of a Budget. An Arena
// divides one Buffer into tensors. Models allocate nothing while they run.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>

#include "core/status.h"
#include "core/tensor.h"

namespace liveavatar {

// What memory is used for.
enum class MemoryCategory {
  kWeights,
  kKvCache,
  kConditioning,
  kActivations,
  kVae,
  kText,
  kAudio,
  kMedia,
  kRuntime,
  kLast = kRuntime
};
constexpr size_t kCategoryCount = static_cast<size_t>(MemoryCategory::kLast) + 1;
const char* category_name(MemoryCategory category);  // "weights", "kv_cache", ...

using CategoryBytes = std::array<size_t, kCategoryCount>;

// Byte limit and usage by category of one device's memory. Thread-safe. Must outlive its Buffers.
//
// Budgets nest. A budget with a limit inside another reserves that limit there when it is opened: what it was admitted
// for it can have, whatever the others do. What is charged to it is in the usage of both.
class Budget {
 public:
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();
  explicit Budget(size_t limit_bytes = kUnlimited) : limit_bytes_(limit_bytes) {}
  // Inside `parent`, which outlives it. kOutOfMemory if the parent has not so much left. kUnlimited reserves nothing:
  // every charge is one to the parent. Nested once: the parent has no parent. The host memory that goes with a device
  // (host()) is that of the parent, without a limit of its own.
  static Expected<std::unique_ptr<Budget>> open_within(Budget& parent, size_t limit_bytes);
  ~Budget();
  // host: the budget of host memory that goes with this device (staging). allocator and host outlive this object.
  Budget(size_t limit_bytes, Allocator& allocator, Budget& host)
      : limit_bytes_(limit_bytes), allocator_(&allocator), host_(&host) {}
  // A dry-run budget only counts: its Buffers have a size and no memory. The memory plan runs the engine's own
  // allocation code with one, so the plan and the run cannot differ.
  struct DryRun {};
  explicit Budget(DryRun) : dry_run_(true) {}
  // Of a device that is not the host. host: a dry run, too.
  Budget(DryRun, Allocator& allocator, Budget& host) : dry_run_(true), allocator_(&allocator), host_(&host) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // kOutOfMemory: the message has the category, the bytes wanted and the bytes left.
  Status charge(MemoryCategory category, size_t bytes);
  void release(MemoryCategory category, size_t bytes);

  bool dry_run() const { return dry_run_; }
  Allocator& allocator() const { return *allocator_; }
  Device device() const { return allocator_->device(); }
  Budget& host() { return host_ == nullptr ? *this : *host_; }  // this budget, if the device is the host
  size_t limit_bytes() const { return limit_bytes_; }
  // What is neither charged nor reserved by a budget inside.
  size_t left_bytes() const { return limit_bytes_ - committed_bytes_.load(); }
  size_t used_bytes() const { return used_bytes_.load(); }
  size_t used_bytes(MemoryCategory category) const { return by_category_[static_cast<size_t>(category)].load(); }
  size_t peak_bytes() const { return peak_bytes_.load(); }
  // The peak since the last restart, for example of one stage of a run.
  void restart_recent_peak() { recent_peak_bytes_ = used_bytes_.load(); }
  size_t recent_peak_bytes() const { return recent_peak_bytes_.load(); }
  CategoryBytes used_by_category() const;
  CategoryBytes peak_by_category() const;  // of each category alone; the peaks may be at different times

 private:
  Budget(Budget& parent, size_t limit_bytes);
  bool commit(size_t bytes);  // false: beyond the limit
  void count(MemoryCategory category, size_t bytes);
  void discount(MemoryCategory category, size_t bytes);
  bool reserves() const { return parent_ != nullptr && limit_bytes_ != kUnlimited; }

  size_t limit_bytes_ = kUnlimited;
  bool dry_run_ = false;
  Allocator* allocator_ = &host_allocator();
  Budget* host_ = nullptr;
  Budget* parent_ = nullptr;
  std::atomic<size_t> committed_bytes_{0};  // charged here or reserved by budgets inside
  std::atomic<size_t> used_bytes_{0}, peak_bytes_{0}, recent_peak_bytes_{0};
  std::array<std::atomic<size_t>, kCategoryCount> by_category_{}, category_peaks_{};
};

// Charges memory that something else owns (a library, a vector) until it is destroyed. Movable.
class Charge {
 public:
  Charge() = default;
  static Expected<Charge> acquire(Budget& budget, MemoryCategory category, size_t bytes);
  Charge(Charge&& other) noexcept { swap(other); }
  Charge& operator=(Charge&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Charge() {
    if (budget_ != nullptr) budget_->release(category_, bytes_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(Charge& other);
  Budget* budget_ = nullptr;
  MemoryCategory category_ = MemoryCategory::kRuntime;
  size_t bytes_ = 0;
};

// Page-aligned memory of the budget's device, of the size that the allocator takes for it, charged to a category until
// it is destroyed. Movable. Host memory is zeroed, but for staging.
class Buffer {
 public:
  Buffer() = default;
  static Expected<Buffer> allocate(Budget& budget, MemoryCategory category, size_t bytes);
  // Host memory for copies from and to the budget's device (Allocator::staging), charged to budget.host().
  static Expected<Buffer> allocate_staging(Budget& budget, MemoryCategory category, size_t bytes);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  std::byte* data() const { return data_; }  // null: empty, or charged to a dry-run budget
  Device device() const { return allocator_->device(); }
  size_t bytes() const { return charge_.bytes(); }

 private:
  static Expected<Buffer> allocate_from(Allocator& allocator, Budget& budget, MemoryCategory category, size_t bytes);
  void swap(Buffer& other);
  std::byte* data_ = nullptr;
  Allocator* allocator_ = &host_allocator();
  Charge charge_;
};

// A bump allocator of 64-byte aligned tensors. A dry-run arena has no memory and only counts. Thus one function gives
// the size of a model's activations and allocates them:  Arena dry_run; Activations(config, dry_run);
// dry_run.used_bytes().
class Arena {
 public:
  Arena() = default;  // dry run: tensors have no memory
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)), dry_run_(buffer_.data() == nullptr) {}
  static Expected<Arena> allocate(Budget& budget, MemoryCategory category, size_t bytes);

  Tensor tensor(Shape shape, DType dtype);  // asserts that it fits: a dry run of the same function gave the size
  void* allocate(size_t bytes);
  bool dry_run() const { return dry_run_; }
  size_t used_bytes() const { return offset_; }
  void restart() { offset_ = 0; }  // earlier tensors become invalid

 private:
  Buffer buffer_;
  size_t offset_ = 0;
  bool dry_run_ = true;
};

// A tensor with its own Buffer, for inputs and outputs that are in no arena.
struct OwnedTensor {
  Buffer buffer;
  Tensor tensor;
  static Expected<OwnedTensor> allocate(Budget& budget, MemoryCategory category, Shape shape, DType dtype);
};

}  // namespace liveavatar
