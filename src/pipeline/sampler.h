// Denoising of one block after the other: the DiT, its caches, and the flow-matching Euler steps.
#pragma once

#include <memory>
#include <vector>

#include "core/memory.h"
#include "models/s2v_dit/s2v_dit.h"
#include "pipeline/schedule.h"
#include "plan/job_memory.h"

namespace liveavatar {

struct SamplerOptions {
  int steps = 4;
  double shift = 3.0;
  uint64_t seed = 420;
  int64_t relative_dist = 0;  // 0: drawn for every forward from seed, block and step; else 4..30
};

// One video. All memory is taken in open(). Not thread-safe.
class Sampler {
 public:
  static Expected<std::unique_ptr<Sampler>> open(S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options);

  // rows [tokens, text_dim] f32 of the prompt.
  void set_prompt(const Tensor& rows);
  // (Re)fills the sink: reference [16, 1, h, w], motion [16, 19, h, w], f32. The rings stay.
  void prefill(const Tensor& reference, const Tensor& motion);
  // Block number `block` from 0: features [layers, audio_dim, 12] f32; latents [16, 3, h, w] f32, noise in, finished
  // out.
  void denoise(int64_t block, const Tensor& features, const Tensor& latents);

 private:
  Sampler(S2vDit& dit, Backend& backend, const DitGeometry& geometry, const SamplerOptions& options)
      : dit_(dit), backend_(backend), geometry_(geometry), options_(options) {}
  int64_t relative_dist(int64_t block, int step) const;

  S2vDit& dit_;
  Backend& backend_;
  DitGeometry geometry_;
  SamplerOptions options_;
  Schedule schedule_;
  SamplerMemory memory_;
};

}  // namespace liveavatar
