// Where a device comes from.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace liveavatar {

// A device's memory first, then, over a budget of that memory, its ops. Outlives the budget and the backends.
class DeviceSource {
 public:
  virtual ~DeviceSource() = default;
  virtual Allocator& allocator() = 0;
  virtual Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) = 0;
};

}  // namespace liveavatar
