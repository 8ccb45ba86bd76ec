// A device without hardware, to find what a real one would: memory that the host cannot touch outside the device's ops,
// ops that run later on a thread of their own, and NaNs wherever nothing was written. Results are the reference
// backend's, to the bit.
#pragma once

#include <memory>

#include "session/models.h"

namespace liveavatar {

struct TestDeviceOptions {
  uint64_t seed = 1;          // of the delays
  int64_t most_delay_us = 0;  // before an op, drawn for every eighth; 0: none
};

// Its memory, and backends whose ops go through one queue.
class TestDevice : public DeviceSource {
 public:
  explicit TestDevice(const TestDeviceOptions& options = {});
  ~TestDevice() override;
  Allocator& allocator() override;
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) override;

 private:
  class Memory;
  TestDeviceOptions options_;
  std::unique_ptr<Memory> memory_;
};

}  // namespace liveavatar
