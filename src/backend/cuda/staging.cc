#include "backend/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace liveavatar::cuda {

Expected<Staging> Staging::open(CudaDevice& device, Budget* host) {
  Staging staging;
  staging.device_ = &device;
  if (host != nullptr) {
    LA_ASSIGN_OR_RETURN(staging.charge_, Charge::acquire(*host, MemoryCategory::kRuntime, kSlots * kSlotBytes));
  }
  Runtime& runtime = device.runtime();
  void* memory = nullptr;
  if (runtime.allocate_pinned(&memory, kSlots * kSlotBytes) != 0)
    return out_of_memory(device.device().str() + ": no pinned host memory for uploads (4 MiB)");
  staging.memory_ = PinnedMemory(runtime, memory);
  for (EventHandle& copied : staging.copied_) {
    void* event = nullptr;
    if (!device.check(runtime.create_event(&event), "creating an event")) return device.status();
    copied = EventHandle(runtime, event);
  }
  return staging;
}

void Staging::upload(const void* host, void* to, size_t bytes, void* stream) {
  Runtime& runtime = device_->runtime();
  const auto* from = static_cast<const std::byte*>(host);
  auto* target = static_cast<std::byte*>(to);
  for (size_t done = 0; done < bytes && !device_->failed(); done += kSlotBytes) {
    const size_t part = std::min(kSlotBytes, bytes - done);
    std::byte* slot = static_cast<std::byte*>(memory_.get()) + next_ * kSlotBytes;
    void* copied = copied_[next_].get();
    next_ = (next_ + 1) % kSlots;
    device_->check(runtime.wait(copied), "waiting for an upload");  // an event that was never recorded is done
    std::memcpy(slot, from + done, part);
    device_->check(runtime.enqueue_write(target + done, slot, part, stream), "an upload");
    device_->check(runtime.record(copied, stream), "recording an event");
  }
}

}  // namespace liveavatar::cuda
