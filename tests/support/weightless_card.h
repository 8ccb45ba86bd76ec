// A card of any size that takes no memory and computes nothing: allocations are addresses without bytes, copies are
// counted, kernels are not run. For the memory of large jobs, which no test has.
#pragma once

#include <memory>

#include "session/models.h"

namespace liveavatar {

struct CardUse {
  size_t used_bytes = 0, peak_bytes = 0;
  uint64_t to_card_bytes = 0, from_card_bytes = 0;  // of copies on streams: uploads and pages
};

class WeightlessCard : public DeviceSource {
 public:
  explicit WeightlessCard(size_t memory_bytes);
  ~WeightlessCard() override;
  Allocator& allocator() override;
  Expected<std::unique_ptr<Backend>> open(const BackendOptions& options) override;
  CardUse use() const;

 private:
  struct Device;
  std::unique_ptr<Device> device_;
};

}  // namespace liveavatar
