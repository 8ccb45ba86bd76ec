// Cards as their data sheets have them, for plans of machines that are not here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// A device that need not be present. The rates are its data sheet's: nothing reaches them.
struct DeviceProfile {
  std::string name;
  size_t memory_bytes = 0;  // that a job can use
  // Of tensor cores: dense products, sums in f32 (int8: in s32). 0: no such products, or unknown.
  double bf16_flops_per_s = 0, fp8_flops_per_s = 0, int8_ops_per_s = 0;
  double bytes_per_s = 0;       // of its memory
  double pcie_bytes_per_s = 0;  // of its link to the host, in one direction
  int compute_capability = 0;   // 89 is 8.9; 0: unknown
  int count = 1;
};

// "rtx4090", "4xrtx4090", or "custom:24GiB,165e12,1008e9,32e9": memory, bf16 flops a second, bytes a second of memory
// and, if it is not PCIe 4.0 x16, of the link.
Expected<DeviceProfile> device_profile(const std::string& text);
// All that have a name, consumer cards first.
std::vector<DeviceProfile> card_profiles();

}  // namespace liveavatar
