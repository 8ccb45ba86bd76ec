// The work of a job in flops and bytes: a simple model, stated in docs/plan.md.
#pragma once

#include "plan/memory_plan.h"

namespace liveavatar {

// Multiplications and additions count one each. Per block of 12 frames.
struct Work {
  double dit_flops = 0;  // all denoising steps, with full KV caches
  double vae_flops = 0;
  // From memory: the weights and full KV caches once a step, the decoder's weights once a latent.
  double bytes = 0;
  // Paged weights once a step, or once for all blocks in flight; KV caches once, a quarter of them out.
  double disk_bytes = 0;
};
Work work_per_block(const JobShape& request, const MemoryPlan& plan);

// A device that need not be present. Rates are from its data sheet (dense bf16), so that times are lower bounds.
struct DeviceProfile {
  std::string name;
  size_t memory_bytes = 0;  // that a job can use
  double flops_per_s = 0, bytes_per_s = 0;
  int count = 1;
};
// "rtx4090", "4xrtx4090", or "custom:24GiB,165e12,1008e9" (memory, flops a second, bytes a second).
Expected<DeviceProfile> device_profile(const std::string& text);

// A lower bound: whichever of computing and moving takes longer.
double seconds_per_block(const Work& work, const DeviceProfile& device);

}  // namespace liveavatar
