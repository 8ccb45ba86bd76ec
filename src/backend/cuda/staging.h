// Host memory on its way to the device: uploads return before the device has read them.
#pragma once

#include <array>

#include "backend/cuda/device.h"
#include "backend/cuda/handles.h"
#include "core/memory.h"

namespace liveavatar::cuda {

// Pinned slots, used in turn. Not thread-safe.
class Staging {
 public:
  // The slots are charged to `host` (kRuntime); null: they are not.
  static Expected<Staging> open(CudaDevice& device, Budget* host);

  // host -> to, in order with the stream's work; `host` may be reused on return. Waits where all slots are in use.
  void upload(const void* host, void* to, size_t bytes, void* stream);

 private:
  static constexpr size_t kSlotBytes = size_t{1} << 20;
  static constexpr size_t kSlots = 4;

  CudaDevice* device_ = nullptr;
  Charge charge_;
  PinnedMemory memory_;
  std::array<EventHandle, kSlots> copied_;
  size_t next_ = 0;
};

}  // namespace liveavatar::cuda
