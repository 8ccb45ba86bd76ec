#include "pipeline/sampler.h"

#include <algorithm>
#include <array>

#include "pipeline/noise.h"

namespace liveavatar {

Expected<std::unique_ptr<Sampler>> Sampler::open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                 const DitGeometry& geometry, const SamplerOptions& options) {
  std::unique_ptr<Sampler> sampler(new Sampler(dit, backend, options));
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
  return sampler;
}

void Sampler::set_prompt(const Tensor& rows) { dit_.encode_text(rows, *memory_.session); }

Status Sampler::prefill(DitPages& pages, const Tensor& reference, const Tensor& motion) {
  dit_.prefill(reference, motion, pages, *memory_.session);
  return pages.status();
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
      dit_.encode_audio(features.slice(int64_t(a), 1).reshape(one), *memory_.session, sounds[a]);
  }
  const BlockFeed::Start& block = blocks_[f.slot];
  BlockInputs inputs;
  inputs.latents = block.latents;
  inputs.actor_masks = block.actor_masks;
  inputs.pose = block.pose;
  inputs.timestep = solver_.schedule().timesteps[static_cast<size_t>(f.step)];
  inputs.step = f.step;
  inputs.start_latent = f.block * memory_.session->geometry.block_latents;
  inputs.relative_dist = relative_dist(f.block, f.step);
  inputs.sound = sounds;
  dit_.begin(inputs, memory_.session->activations.flights[f.slot]);
  return {};
}

void Sampler::end(const Forward& f) {
  dit_.end(memory_.session->activations.flights[f.slot], memory_.velocity.tensor);
  size_t kept = static_cast<size_t>(solver_history_tensors(solver_.kind()));
  std::span<const Tensor> history = std::span(history_).subspan(f.slot * kept, kept);
  solver_.step(backend_, static_cast<size_t>(f.step), memory_.velocity.tensor, history, blocks_[f.slot].latents);
}

// Blocks are begun `lag` turns after one another.
std::vector<Sampler::Forward> Sampler::forwards_of(const BlockRange& blocks, int64_t turn) const {
  const int64_t steps = options_.steps, lag = turns_between_blocks(steps, options_.in_flight);
  std::vector<Forward> forwards;
  for (int64_t b = std::max<int64_t>(0, (turn - steps + lag) / lag); b <= std::min(blocks.count - 1, turn / lag); ++b)
    forwards.push_back({blocks.first + b, turn - b * lag, static_cast<size_t>(b % options_.in_flight)});
  return forwards;
}

// What this turn and the next will look at: a layer's rings one after the other.
void Sampler::expect_rings(const BlockRange& blocks, int64_t turn) {
  std::vector<RingUse> uses;
  for (int64_t t : {turn, turn + 1}) {
    const std::vector<Forward> forwards = forwards_of(blocks, t);
    for (int64_t layer = 0; layer < dit_.config().layers; ++layer)
      for (const Forward& f : forwards) uses.push_back({f.step, layer});
  }
  memory_.session->caches.rings->expect(uses);
}

Status Sampler::begin_turn(const Run& run, int64_t turn, std::vector<DitFlight*>& flights) {
  const std::vector<Forward> forwards = forwards_of(run.blocks, turn);
  if (forwards.empty()) return {};
  expect_rings(run.blocks, turn);
  for (const Forward& f : forwards) {
    LA_RETURN_IF_ERROR(begin(f, *run.feed));
    flights.push_back(&memory_.session->activations.flights[f.slot]);
  }
  return {};
}

Status Sampler::end_turn(const Run& run, int64_t turn) {
  const std::vector<Forward> forwards = forwards_of(run.blocks, turn);
  if (forwards.empty()) return {};
  LA_RETURN_IF_ERROR(memory_.session->caches.rings->status());
  for (const Forward& f : forwards) end(f);
  const Forward& oldest = forwards.front();
  if (oldest.step < options_.steps - 1) return {};
  return run.feed->done(oldest.block, blocks_[oldest.slot].latents);
}

Status Sampler::run(DitPages& pages, const BlockRange& blocks, const BlockFeed& feed) {
  const Run alone{this, blocks, &feed};
  return run_together(pages, {&alone, 1});
}

Status Sampler::run_together(DitPages& pages, std::span<const Run> runs) {
  const S2vDit& dit = runs.front().sampler->dit_;
  std::vector<DitFlight*> flights;
  for (int64_t turn = 0;; ++turn) {
    flights.clear();
    for (const Run& run : runs) {
      LA_CHECK(&run.sampler->dit_ == &dit);
      LA_RETURN_IF_ERROR(run.sampler->begin_turn(run, turn, flights));
    }
    if (flights.empty()) return {};
    for (int64_t i = 0; i < dit.config().layers; ++i) dit.layer(i, pages, flights);
    LA_RETURN_IF_ERROR(pages.status());
    for (const Run& run : runs) LA_RETURN_IF_ERROR(run.sampler->end_turn(run, turn));
  }
}

}  // namespace liveavatar
