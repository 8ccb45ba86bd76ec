#include "core/memory.h"

#include "core/rounding.h"

namespace liveavatar {

namespace {

constexpr size_t kAlignment = 64;

std::string mib(size_t bytes) { return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB"; }

void raise_to(std::atomic<size_t>& peak, size_t value) {
  size_t seen = peak.load();
  while (seen < value && !peak.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

const char* tenant_name(Tenant t) {
  constexpr const char* kNames[kTenantCount] = {"weights", "kv_cache", "conditioning", "activations", "vae",
                                                "text",    "audio",    "media",        "runtime"};
  return kNames[static_cast<size_t>(t)];
}

Status Budget::charge(Tenant tenant, size_t bytes) {
  size_t used = used_bytes_.load();
  do {
    if (bytes > limit_bytes_ || used > limit_bytes_ - bytes) {
      return out_of_memory(std::string("memory budget: ") + tenant_name(tenant) + " wants " + mib(bytes) + ", " +
                           mib(limit_bytes_ - used) + " of " + mib(limit_bytes_) +
                           " are left; raise the budget or choose a smaller `size`");
    }
  } while (!used_bytes_.compare_exchange_weak(used, used + bytes));
  size_t t = static_cast<size_t>(tenant);
  raise_to(tenant_peaks_[t], by_tenant_[t] += bytes);
  raise_to(peak_bytes_, used + bytes);
  raise_to(recent_peak_bytes_, used + bytes);
  return {};
}

void Budget::release(Tenant tenant, size_t bytes) {
  used_bytes_ -= bytes;
  by_tenant_[static_cast<size_t>(tenant)] -= bytes;
}

TenantBytes Budget::used_by_tenant() const {
  TenantBytes bytes{};
  for (size_t t = 0; t < kTenantCount; ++t) bytes[t] = by_tenant_[t].load();
  return bytes;
}

TenantBytes Budget::peak_by_tenant() const {
  TenantBytes bytes{};
  for (size_t t = 0; t < kTenantCount; ++t) bytes[t] = tenant_peaks_[t].load();
  return bytes;
}

Expected<Charge> Charge::take(Budget& budget, Tenant tenant, size_t bytes) {
  LA_RETURN_IF_ERROR(budget.charge(tenant, bytes));
  Charge charge;
  charge.budget_ = &budget;
  charge.tenant_ = tenant;
  charge.bytes_ = bytes;
  return charge;
}

void Charge::swap(Charge& other) {
  std::swap(budget_, other.budget_);
  std::swap(tenant_, other.tenant_);
  std::swap(bytes_, other.bytes_);
}

Expected<Buffer> Buffer::allocate(Budget& budget, Tenant tenant, size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  bytes = round_up(bytes, kPageBytes);
  LA_ASSIGN_OR_RETURN(buffer.charge_, Charge::take(budget, tenant, bytes));
  if (budget.measuring()) return buffer;
  buffer.allocator_ = &budget.allocator();
  Expected<std::byte*> memory = buffer.allocator_->allocate(bytes);
  if (!memory.ok()) {
    return out_of_memory((buffer.device().is_host() ? "the system" : buffer.device().str()) + " has no " + mib(bytes) +
                         " left for " + tenant_name(tenant) + "; " + memory.status().message());
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

Expected<Arena> Arena::allocate(Budget& budget, Tenant tenant, size_t bytes) {
  LA_ASSIGN_OR_RETURN(Buffer buffer, Buffer::allocate(budget, tenant, bytes));
  return Arena(std::move(buffer));
}

void* Arena::take(size_t bytes) {
  size_t begin = offset_;
  offset_ += round_up(bytes, kAlignment);
  if (measuring_) return nullptr;
  LA_CHECK(offset_ <= buffer_.bytes());
  return buffer_.data() + begin;
}

Tensor Arena::tensor(Shape shape, DType dtype) {
  return {take(static_cast<size_t>(shape.elements()) * dtype_bytes(dtype)), shape, dtype, buffer_.device()};
}

Expected<OwnedTensor> OwnedTensor::allocate(Budget& budget, Tenant tenant, Shape shape, DType dtype) {
  OwnedTensor owned;
  size_t bytes = static_cast<size_t>(shape.elements()) * dtype_bytes(dtype);
  LA_ASSIGN_OR_RETURN(owned.buffer, Buffer::allocate(budget, tenant, bytes));
  owned.tensor = {owned.buffer.data(), shape, dtype, owned.buffer.device()};
  return owned;
}

}  // namespace liveavatar
