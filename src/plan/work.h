// The work of a job in flops and bytes: a simple model, stated in docs/plan.md.
#pragma once

#include "plan/memory_plan.h"

namespace liveavatar {

// Multiplications and additions count one each. Per block of 12 frames.
struct Work {
  // All denoising steps, with full KV caches: linear layers, whose operands are of type `products`, and attention.
  double product_flops = 0, attention_flops = 0;
  DType products = DType::kBF16;  // kF32, kBF16, kF8E4M3 or kI8
  double prompt_flops = 0;        // of attention_flops, to the prompt
  double vae_flops = 0;
  // From the device's memory: the weights once a step, full KV caches once.
  double bytes = 0;
  double weight_bytes = 0;  // once
  // To fill the sink, once a video and once more behind the first clip.
  double sink_product_flops = 0, sink_attention_flops = 0, sink_prompt_flops = 0;
  // What is not on the device: weights once a step, or once for all blocks in flight; KV caches once, a quarter of them
  // out. Over PCIe on a card; from and to disk, of these.
  double link_bytes = 0, disk_bytes = 0;

  double dit_flops() const { return product_flops + attention_flops; }
};
Work work_per_block(const JobShape& request, const MemoryPlan& plan);

// What a lead does beside sampling, in steps: decoding, as its flops are to those of a step. By this steps are dealt to
// stages (place_ranks), in a run and in a plan of the same flags.
double lead_steps(const Work& work, int64_t steps);

}  // namespace liveavatar
