#include "core/memory.h"

#include <iterator>

#include "core/rounding.h"
#include "core/size_text.h"

namespace liveavatar {

namespace {

constexpr size_t kAlignment = 64;

void raise_to(std::atomic<size_t>& peak, size_t value) {
  size_t seen = peak.load();
  while (seen < value && !peak.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

const char* category_name(MemoryCategory category) {
  constexpr const char* kNames[] = {"weights", "kv_cache", "conditioning", "activations", "vae",
                                    "text",    "audio",    "media",        "runtime"};
  static_assert(std::size(kNames) == kCategoryCount);
  return kNames[static_cast<size_t>(category)];
}

Budget::Budget(Budget& parent, size_t limit_bytes)
    : limit_bytes_(limit_bytes),
      dry_run_(parent.dry_run_),
      allocator_(parent.allocator_),
      host_(parent.host_),
      parent_(&parent) {}

Expected<std::unique_ptr<Budget>> Budget::open_within(Budget& parent, size_t limit_bytes) {
  LA_CHECK(parent.parent_ == nullptr);
  std::unique_ptr<Budget> budget(new Budget(parent, limit_bytes));
  if (!budget->reserves() || parent.commit(limit_bytes)) return budget;
  budget->parent_ = nullptr;  // reserved nothing
  return out_of_memory("memory budget: " + mib(limit_bytes) + " are wanted, " + mib(parent.left_bytes()) + " of " +
                       mib(parent.limit_bytes_) + " are left");
}

Budget::~Budget() {
  LA_CHECK(used_bytes_ == 0 && committed_bytes_ == 0);
  if (reserves()) parent_->committed_bytes_ -= limit_bytes_;
}

bool Budget::commit(size_t bytes) {
  size_t committed = committed_bytes_.load();
  do {
    if (bytes > limit_bytes_ || committed > limit_bytes_ - bytes) return false;
  } while (!committed_bytes_.compare_exchange_weak(committed, committed + bytes));
  return true;
}

void Budget::count(MemoryCategory category, size_t bytes) {
  const size_t i = static_cast<size_t>(category);
  const size_t used = used_bytes_.fetch_add(bytes) + bytes;
  const size_t of_category = by_category_[i].fetch_add(bytes) + bytes;
  raise_to(category_peaks_[i], of_category);
  raise_to(peak_bytes_, used);
  raise_to(recent_peak_bytes_, used);
}

void Budget::discount(MemoryCategory category, size_t bytes) {
  used_bytes_ -= bytes;
  by_category_[static_cast<size_t>(category)] -= bytes;
}

Status Budget::charge(MemoryCategory category, size_t bytes) {
  if (!commit(bytes)) {
    return out_of_memory(std::string("memory budget: ") + category_name(category) + " wants " + mib(bytes) + ", " +
                         mib(left_bytes()) + " of " + mib(limit_bytes_) +
                         " are left; raise the budget or choose a smaller `size`");
  }
  if (parent_ != nullptr && !reserves()) {
    Status status = parent_->charge(category, bytes);
    if (!status.ok()) {
      committed_bytes_ -= bytes;
      return status;
    }
  }
  if (reserves()) parent_->count(category, bytes);
  count(category, bytes);
  return {};
}

// What is counted never exceeds what is committed, also for those who charge in between.
void Budget::release(MemoryCategory category, size_t bytes) {
  if (reserves()) parent_->discount(category, bytes);
  discount(category, bytes);
  committed_bytes_ -= bytes;
  if (parent_ != nullptr && !reserves()) parent_->release(category, bytes);
}

CategoryBytes Budget::used_by_category() const {
  CategoryBytes bytes{};
  for (size_t i = 0; i < kCategoryCount; ++i) bytes[i] = by_category_[i].load();
  return bytes;
}

CategoryBytes Budget::peak_by_category() const {
  CategoryBytes bytes{};
  for (size_t i = 0; i < kCategoryCount; ++i) bytes[i] = category_peaks_[i].load();
  return bytes;
}

Expected<Charge> Charge::acquire(Budget& budget, MemoryCategory category, size_t bytes) {
  LA_RETURN_IF_ERROR(budget.charge(category, bytes));
  Charge charge;
  charge.budget_ = &budget;
  charge.category_ = category;
  charge.bytes_ = bytes;
  return charge;
}

void Charge::swap(Charge& other) {
  std::swap(budget_, other.budget_);
  std::swap(category_, other.category_);
  std::swap(bytes_, other.bytes_);
}

Expected<Buffer> Buffer::allocate(Budget& budget, MemoryCategory category, size_t bytes) {
  return allocate_from(budget.allocator(), budget, category, bytes);
}

Expected<Buffer> Buffer::allocate_staging(Budget& budget, MemoryCategory category, size_t bytes) {
  return allocate_from(budget.allocator().staging(), budget.host(), category, bytes);
}

Expected<Buffer> Buffer::allocate_from(Allocator& allocator, Budget& budget, MemoryCategory category, size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  bytes = allocator.taken_bytes(bytes);
  LA_ASSIGN_OR_RETURN(buffer.charge_, Charge::acquire(budget, category, bytes));
  buffer.allocator_ = &allocator;
  if (budget.dry_run()) return buffer;
  Expected<std::byte*> memory = buffer.allocator_->allocate(bytes);
  if (!memory.ok() && memory.status().code() != ErrorCode::kOutOfMemory) return memory.status();
  if (!memory.ok()) {
    return out_of_memory((buffer.device().is_host() ? "the system" : buffer.device().str()) + " has no " + mib(bytes) +
                         " left for " + category_name(category) + "; " + memory.status().message());
  }
  buffer.data_ = *memory;
  return buffer;
}

Buffer::~Buffer() {
  if (data_ != nullptr) allocator_->free(data_, bytes());
}

void Buffer::swap(Buffer& other) {
  std::swap(data_, other.data_);
  std::swap(allocator_, other.allocator_);
  std::swap(charge_, other.charge_);
}

Expected<Arena> Arena::allocate(Budget& budget, MemoryCategory category, size_t bytes) {
  LA_ASSIGN_OR_RETURN(Buffer buffer, Buffer::allocate(budget, category, bytes));
  return Arena(std::move(buffer));
}

void* Arena::allocate(size_t bytes) {
  size_t begin = offset_;
  offset_ += round_up(bytes, kAlignment);
  if (dry_run_) return nullptr;
  LA_CHECK(offset_ <= buffer_.bytes());
  return buffer_.data() + begin;
}

Tensor Arena::tensor(Shape shape, DType dtype) {
  return {allocate(static_cast<size_t>(shape.elements()) * dtype_bytes(dtype)), shape, dtype, buffer_.device()};
}

Expected<OwnedTensor> OwnedTensor::allocate(Budget& budget, MemoryCategory category, Shape shape, DType dtype) {
  OwnedTensor owned;
  size_t bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  LA_ASSIGN_OR_RETURN(owned.buffer, Buffer::allocate(budget, category, bytes));
  owned.tensor = {owned.buffer.data(), shape, dtype, owned.buffer.device()};
  return owned;
}

}  // namespace liveavatar
