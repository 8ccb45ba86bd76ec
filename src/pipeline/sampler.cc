#include "pipeline/sampler.h"

#include <array>

#include "ops/elementwise.h"
#include "pipeline/noise.h"

namespace liveavatar {

Expected<std::unique_ptr<Sampler>> Sampler::open(S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options) {
  std::unique_ptr<Sampler> sampler(new Sampler(dit, backend, geometry, options));
  LA_ASSIGN_OR_RETURN(sampler->schedule_, flow_match_schedule(options.steps, options.shift));
  const DitConfig& config = dit.config();
  Arena cache_size, activation_size;
  DitCaches(config, geometry, options.steps, 1, dit.dtype(), cache_size);
  DitActivations(config, geometry, dit.dtype(), activation_size);
  LA_ASSIGN_OR_RETURN(sampler->cache_arena_, Arena::allocate(budget, Tenant::kKvCache, cache_size.used_bytes()));
  LA_ASSIGN_OR_RETURN(sampler->activation_arena_,
                      Arena::allocate(budget, Tenant::kActivations, activation_size.used_bytes()));
  sampler->caches_ =
      std::make_unique<DitCaches>(config, geometry, options.steps, 1, dit.dtype(), sampler->cache_arena_);
  sampler->activations_ = std::make_unique<DitActivations>(config, geometry, dit.dtype(), sampler->activation_arena_);
  Shape block{config.channels, geometry.block_latents, geometry.latent_height, geometry.latent_width};
  LA_ASSIGN_OR_RETURN(sampler->velocity_, OwnedTensor::allocate(budget, Tenant::kActivations, block, DType::kF32));
  return sampler;
}

void Sampler::set_prompt(const Tensor& rows) { dit_.encode_text(rows, *activations_, *caches_); }

void Sampler::prefill(const Tensor& reference, const Tensor& motion) {
  dit_.prefill(geometry_, reference, motion, *activations_, *caches_);
}

int64_t Sampler::relative_dist(int64_t block, int step) const {
  if (options_.relative_dist > 0) return options_.relative_dist;
  constexpr int64_t kNearest = 4, kFarthest = 30;  // the original's range
  uint32_t draw = random_bits(options_.seed, static_cast<uint64_t>(block), static_cast<uint64_t>(step));
  return kNearest + static_cast<int64_t>(draw % (kFarthest - kNearest + 1));
}

void Sampler::denoise(int64_t block, const Tensor& features, const Tensor& latents) {
  dit_.encode_audio(features, 0, *activations_, *caches_);
  for (int step = 0; step < options_.steps; ++step) {
    size_t i = static_cast<size_t>(step);
    BlockInputs inputs;
    inputs.latents = latents;
    inputs.timestep = schedule_.timesteps[i];
    inputs.step = step;
    inputs.start_latent = block * geometry_.block_latents;
    inputs.relative_dist = relative_dist(block, step);
    dit_.forward(geometry_, inputs, *activations_, *caches_, velocity_.tensor);
    float delta = static_cast<float>(schedule_.sigmas[i + 1] - schedule_.sigmas[i]);
    ops::add(backend_, latents, velocity_.tensor, latents, delta);  // Euler
  }
}

}  // namespace liveavatar
