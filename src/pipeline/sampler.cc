#include "pipeline/sampler.h"

#include <algorithm>
#include <array>

#include "pipeline/noise.h"

namespace liveavatar {

Expected<std::unique_ptr<Sampler>> Sampler::open(S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options) {
  std::unique_ptr<Sampler> sampler(new Sampler(dit, backend, geometry, options));
  LA_ASSIGN_OR_RETURN(sampler->solver_, Solver::make(options.solver, options.steps, options.shift));
  SamplerShape shape{.config = dit.config(),
                     .geometry = geometry,
                     .steps = options.steps,
                     .types = dit.types(),
                     .in_flight = options.in_flight,
                     .actors = options.actors,
                     .solver_tensors = solver_history_tensors(options.solver),
                     .resident_rings = options.resident_rings,
                     .ring_folder = options.ring_folder};
  LA_ASSIGN_OR_RETURN(sampler->memory_, SamplerMemory::allocate(shape, backend, budget));
  sampler->blocks_.resize(static_cast<size_t>(options.in_flight));
  for (int64_t i = 0; i < options.in_flight * shape.solver_tensors; ++i)
    sampler->history_.push_back(sampler->memory_.solver_history.tensor.slice(i, 1));
  sampler->flights_.reserve(sampler->blocks_.size());
  return sampler;
}

void Sampler::set_prompt(const Tensor& rows) { dit_.encode_text(rows, *memory_.activations, *memory_.caches); }

Status Sampler::prefill(const Tensor& reference, const Tensor& motion) {
  dit_.prefill(geometry_, reference, motion, *memory_.activations, *memory_.caches);
  return dit_.status();
}

int64_t Sampler::relative_dist(int64_t block, int64_t step) const {
  if (options_.relative_dist > 0) return options_.relative_dist;
  constexpr int64_t kNearest = 4, kFarthest = 30;  // the original's range
  uint32_t draw = random_bits(options_.seed, static_cast<uint64_t>(block), static_cast<uint64_t>(step));
  return kNearest + static_cast<int64_t>(draw % (kFarthest - kNearest + 1));
}

Status Sampler::begin(const Forward& f, const BlockFeed& feed) {
  size_t actors = static_cast<size_t>(options_.actors);
  std::span<AudioTokens> sounds = std::span(memory_.sounds).subspan(f.slot * actors, actors);
  if (f.step == 0) {
    LA_ASSIGN_OR_RETURN(blocks_[f.slot], feed.start(f.block));
    const Tensor& features = blocks_[f.slot].features;
    Shape one{features.dim(1), features.dim(2), features.dim(3)};
    for (size_t a = 0; a < sounds.size(); ++a)
      dit_.encode_audio(features.slice(int64_t(a), 1).reshape(one), *memory_.activations, sounds[a]);
  }
  const BlockFeed::Start& block = blocks_[f.slot];
  BlockInputs inputs;
  inputs.latents = block.latents;
  inputs.actor_masks = block.actor_masks;
  inputs.pose = block.pose;
  inputs.timestep = solver_.schedule().timesteps[static_cast<size_t>(f.step)];
  inputs.step = f.step;
  inputs.start_latent = f.block * geometry_.block_latents;
  inputs.relative_dist = relative_dist(f.block, f.step);
  inputs.sound = sounds;
  dit_.begin(geometry_, inputs, memory_.activations->flights[f.slot], *memory_.activations, *memory_.caches);
  return {};
}

void Sampler::end(const Forward& f) {
  dit_.end(geometry_, memory_.activations->flights[f.slot], *memory_.activations, memory_.velocity.tensor);
  size_t kept = static_cast<size_t>(solver_history_tensors(solver_.kind()));
  std::span<const Tensor> history = std::span(history_).subspan(f.slot * kept, kept);
  solver_.step(backend_, static_cast<size_t>(f.step), memory_.velocity.tensor, history, blocks_[f.slot].latents);
}

std::vector<Sampler::Forward> Sampler::Diagonals::of(int64_t turn) const {
  std::vector<Forward> forwards;
  for (int64_t b = std::max<int64_t>(0, (turn - steps + lag) / lag); b <= std::min(count - 1, turn / lag); ++b)
    forwards.push_back({first + b, turn - b * lag, static_cast<size_t>(b % in_flight)});
  return forwards;
}

// What this turn and the next will look at: a layer's rings one after the other.
void Sampler::expect_rings(const Diagonals& diagonals, int64_t turn) {
  std::vector<RingUse> uses;
  for (int64_t t : {turn, turn + 1}) {
    const std::vector<Forward> forwards = diagonals.of(t);
    for (int64_t layer = 0; layer < dit_.config().layers; ++layer)
      for (const Forward& f : forwards) uses.push_back({f.step, layer});
  }
  memory_.caches->rings->expect(uses);
}

Status Sampler::run(int64_t first, int64_t count, const BlockFeed& feed) {
  int64_t steps = options_.steps, slots = options_.in_flight;
  const Diagonals diagonals{first, count, steps, slots, turns_between_blocks(steps, slots)};
  for (int64_t turn = 0; turn < turns_of(count, steps, slots); ++turn) {
    const std::vector<Forward> forwards = diagonals.of(turn);
    expect_rings(diagonals, turn);
    flights_.clear();
    for (const Forward& f : forwards) {
      LA_RETURN_IF_ERROR(begin(f, feed));
      flights_.push_back(&memory_.activations->flights[f.slot]);
    }
    for (int64_t i = 0; i < dit_.config().layers; ++i)
      dit_.layer(i, geometry_, flights_, *memory_.activations, *memory_.caches);
    LA_RETURN_IF_ERROR(dit_.status());
    LA_RETURN_IF_ERROR(memory_.caches->rings->status());
    for (const Forward& f : forwards) end(f);
    const Forward& oldest = forwards.front();
    if (oldest.step == steps - 1) LA_RETURN_IF_ERROR(feed.done(oldest.block, blocks_[oldest.slot].latents));
  }
  return {};
}

}  // namespace liveavatar
