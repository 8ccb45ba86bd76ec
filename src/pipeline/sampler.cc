#include "pipeline/sampler.h"

#include <array>

#include "ops/elementwise.h"
#include "pipeline/noise.h"

namespace liveavatar {

Expected<std::unique_ptr<Sampler>> Sampler::open(S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options) {
  std::unique_ptr<Sampler> sampler(new Sampler(dit, backend, geometry, options));
  LA_ASSIGN_OR_RETURN(sampler->schedule_, flow_match_schedule(options.steps, options.shift));
  SamplerShape shape{dit.config(), geometry, options.steps, dit.types()};
  LA_ASSIGN_OR_RETURN(sampler->memory_, SamplerMemory::allocate(shape, backend, budget));
  return sampler;
}

void Sampler::set_prompt(const Tensor& rows) { dit_.encode_text(rows, *memory_.activations, *memory_.caches); }

void Sampler::prefill(const Tensor& reference, const Tensor& motion) {
  dit_.prefill(geometry_, reference, motion, *memory_.activations, *memory_.caches);
}

int64_t Sampler::relative_dist(int64_t block, int step) const {
  if (options_.relative_dist > 0) return options_.relative_dist;
  constexpr int64_t kNearest = 4, kFarthest = 30;  // the original's range
  uint32_t draw = random_bits(options_.seed, static_cast<uint64_t>(block), static_cast<uint64_t>(step));
  return kNearest + static_cast<int64_t>(draw % (kFarthest - kNearest + 1));
}

void Sampler::denoise(int64_t block, const Tensor& features, const Tensor& latents) {
  dit_.encode_audio(features, 0, *memory_.activations, *memory_.caches);
  for (int step = 0; step < options_.steps; ++step) {
    size_t i = static_cast<size_t>(step);
    BlockInputs inputs;
    inputs.latents = latents;
    inputs.timestep = schedule_.timesteps[i];
    inputs.step = step;
    inputs.start_latent = block * geometry_.block_latents;
    inputs.relative_dist = relative_dist(block, step);
    dit_.forward(geometry_, inputs, *memory_.activations, *memory_.caches, memory_.velocity.tensor);
    float delta = static_cast<float>(schedule_.sigmas[i + 1] - schedule_.sigmas[i]);
    ops::add(backend_, latents, memory_.velocity.tensor, latents, delta);  // Euler
  }
}

}  // namespace liveavatar
