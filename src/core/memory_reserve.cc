#include "core/memory_reserve.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace liveavatar {
namespace {

// As much as malloc maps where its heap cannot grow. Never touched: addresses alone.
constexpr size_t kPartBytes = size_t{1} << 20;
constexpr int kParts = 4;
std::atomic<void*> parts[kParts];
std::atomic<bool> is_kept = false, retries = false;

void give_out_part() {
  for (std::atomic<void*>& part : parts) {
    void* const bytes = part.exchange(nullptr);
    std::free(bytes);
    if (bytes == nullptr) continue;
    if (retries) return;
    break;
  }
  throw std::bad_alloc();
}

bool refill(std::atomic<void*>& part) {
  if (part != nullptr) return true;
  void* const bytes = std::malloc(kPartBytes);
  void* none = nullptr;
  if (bytes != nullptr && !part.compare_exchange_strong(none, bytes)) std::free(bytes);  // another thread was first
  return bytes != nullptr;
}

}  // namespace

void keep_memory_reserve(OnLack on_lack) {
  retries = on_lack == OnLack::kRetry;
  is_kept = true;
  refill_memory_reserve();
  std::set_new_handler(give_out_part);
}

bool refill_memory_reserve() noexcept {
  if (!is_kept) return true;
  bool is_full = true;
  for (std::atomic<void*>& part : parts) is_full = refill(part) && is_full;
  return is_full;
}

}  // namespace liveavatar
