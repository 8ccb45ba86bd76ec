#include "session/denoiser.h"

#include <algorithm>

#include "core/boundary.h"
#include "core/stop.h"
#include "session/finite.h"
#include "session/noise.h"

namespace liveavatar {

Status check_retry(const JobShape& shape, const Sampling& sampling) {
  if (sampling.on_nan != OnNan::kRetry) return {};
  const std::string what = "`on_nan` retry: ";
  if (shape.placement.ranks() > 1)
    return unsupported(what + "a block is computed again on one device alone; leave out `devices`");
  if (shape.blocks_in_flight() > 1)
    return unsupported(what +
                       "several blocks are in flight, and others would have what is wrong of one; choose "
                       "`schedule` sequential");
  if (shape.kv_caches_paged())
    return unsupported(what + "keys and values must stay on the device; give it more memory, or choose `on_nan` stop");
  return {};
}

Expected<std::unique_ptr<Denoiser>> Denoiser::open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                   const JobShape& shape, const Options& options) {
  std::unique_ptr<Denoiser> denoiser(new Denoiser(dit, backend, options));
  denoiser->steps_ = shape.own_steps();
  LA_CHECK(denoiser->steps_.first >= 0 && denoiser->steps_.count > 0);
  LA_CHECK(denoiser->steps_.first + denoiser->steps_.count <= shape.steps);
  const bool all = denoiser->steps_.count == shape.steps;
  if (!all && solver_history_tensors(options.sampling.solver) > 0)
    return unsupported("`sample_solver`: only euler can be split over several denoisers; the others remember steps");
  LA_RETURN_IF_ERROR(check_retry(shape, options.sampling));
  const int steps = static_cast<int>(shape.steps);
  LA_ASSIGN_OR_RETURN(denoiser->solver_, Solver::make(options.sampling.solver, steps, options.sampling.shift));
  LA_ASSIGN_OR_RETURN(denoiser->memory_, SamplerMemory::allocate(shape, options.cache_folder, backend, budget));
  denoiser->memory_.session->stop = options.stop;
  if (!shape.rank.share.whole()) LA_RETURN_IF_ERROR(denoiser->open_exchange(shape, budget));
  denoiser->schedule_ = {denoiser->steps_.count, shape.blocks_in_flight()};
  denoiser->blocks_.resize(static_cast<size_t>(shape.blocks_in_flight()));
  for (int64_t i = 0; i < shape.blocks_in_flight() * shape.solver_tensors; ++i)
    denoiser->history_.push_back(denoiser->memory_.solver_history.tensor.slice(i, 1));
  return denoiser;
}

// With the ranks that share its steps.
Status Denoiser::open_exchange(const JobShape& shape, Budget& budget) {
  const RankShare& share = shape.rank.share;
  LA_ASSIGN_OR_RETURN(link_buffers_, Charge::acquire(budget, MemoryCategory::kRuntime,
                                                     backend_.link_bytes(static_cast<int>(share.ranks))));
  DitSession& session = *memory_.session;
  const ExchangeBuffers& buffers = session.activations.exchange;
  if (const size_t bytes = buffers.staging_bytes(); bytes > 0) {
    LA_ASSIGN_OR_RETURN(exchange_staging_, Buffer::allocate_staging(budget, MemoryCategory::kActivations, bytes));
  }
  if (budget.dry_run()) return {};
  LA_CHECK(options_.stage != nullptr);
  const HeadExchange::Memory memory{shape.shapes.dit.heads, buffers, exchange_staging_.data()};
  session.exchange = std::make_unique<HeadExchange>(*options_.stage, backend_, share, memory);
  LA_RETURN_IF_ERROR(session.exchange->open_link());
  if (session.exchange->is_linked()) {
    exchange_staging_ = Buffer();
  } else {
    link_buffers_ = Charge();
  }
  return {};
}

std::string Denoiser::link() const {
  const HeadExchange* exchange = memory_.session->exchange.get();
  return exchange == nullptr ? "" : exchange->link();
}

void Denoiser::set_prompt(const Tensor& rows) { dit_.encode_text(rows, *memory_.session); }

Status Denoiser::prefill(DitWeightGroups& weights, const Tensor& reference, const Tensor& motion) {
  dit_.prefill(reference, motion, weights, *memory_.session);
  LA_RETURN_IF_ERROR(check_stop(options_.stop));
  LA_RETURN_IF_ERROR(session_status());
  return weights.status();
}

void Denoiser::restart() { memory_.session->caches.forget_blocks(); }

Status Denoiser::session_status() const {
  const DitSession& session = *memory_.session;
  if (session.exchange != nullptr) LA_RETURN_IF_ERROR(session.exchange->status());
  return session.caches.kv->status();
}

int64_t Denoiser::relative_dist(int64_t block, int64_t step) const {
  const Sampling& sampling = options_.sampling;
  if (sampling.relative_dist > 0) return sampling.relative_dist;
  constexpr int64_t kNearest = 4, kFarthest = 30;  // the original's range
  uint32_t draw = random_bits(sampling.seed, static_cast<uint64_t>(block), static_cast<uint64_t>(step));
  return kNearest + static_cast<int64_t>(draw % (kFarthest - kNearest + 1));
}

Expected<bool> Denoiser::begin(const Forward& f, LatentChannel& channel) {
  DitSession& session = *memory_.session;
  const size_t actors = memory_.audio_tokens.size() / blocks_.size();
  std::span<AudioTokens> audio_tokens = std::span(memory_.audio_tokens).subspan(f.slot * actors, actors);
  if (f.step == 0) {
    if (again_ == f.block) {
      LA_RETURN_IF_ERROR(channel.renew(f.block, blocks_[f.slot].latents));
    } else {
      LA_ASSIGN_OR_RETURN(std::optional<BlockStart> start, channel.receive(f.block));
      if (!start) return false;
      blocks_[f.slot] = *start;
    }
    const Tensor& features = blocks_[f.slot].features;
    Shape one{features.dim(1), features.dim(2), features.dim(3)};
    for (size_t a = 0; a < audio_tokens.size(); ++a)
      dit_.encode_audio(features.slice(int64_t(a), 1).reshape(one), session, audio_tokens[a]);
  }
  const int64_t step = steps_.first + f.step;
  const BlockStart& block = blocks_[f.slot];
  BlockInputs inputs;
  inputs.latents = block.latents;
  inputs.actor_masks = block.actor_masks;
  inputs.pose = block.pose;
  inputs.timestep = solver_.schedule().timesteps[static_cast<size_t>(step)];
  inputs.step = f.step;
  inputs.start_latent = f.block * session.geometry.block_latents;
  inputs.relative_dist = relative_dist(f.block, step);
  inputs.audio = audio_tokens;
  dit_.begin(inputs, session.activations.forwards[f.slot]);
  return true;
}

void Denoiser::end(const Forward& f) {
  dit_.end(memory_.session->activations.forwards[f.slot], memory_.velocity.tensor);
  size_t kept = static_cast<size_t>(solver_history_tensors(solver_.kind()));
  std::span<const Tensor> history = std::span(history_).subspan(f.slot * kept, kept);
  const size_t step = static_cast<size_t>(steps_.first + f.step);
  solver_.step(backend_, step, memory_.velocity.tensor, history, blocks_[f.slot].latents);
}

// What this tick and the next will look at: a layer's caches one after the other.
void Denoiser::expect_caches(const BlockRange& blocks, int64_t tick) {
  std::vector<KvCacheKey> uses;
  for (int64_t t : {tick, tick + 1}) {
    const std::vector<Forward> forwards = schedule_.forwards(blocks, t);
    for (int64_t layer = 0; layer < dit_.config().layers; ++layer)
      for (const Forward& f : forwards) uses.push_back({f.step, layer});
  }
  memory_.session->caches.kv->expect(uses);
}

Status Denoiser::begin_tick(Run& run, int64_t tick) {
  tick += run.begun * schedule_.ticks_between_blocks() - run.repeated_ticks;
  tick_ = schedule_.forwards(run.blocks, tick);
  if (tick_.empty()) return {};
  const Forward& youngest = tick_.back();
  if (youngest.step == 0 && again_ != youngest.block)
    LA_RETURN_IF_ERROR(run.channel->before(run.blocks, youngest.block - run.blocks.first));
  expect_caches(run.blocks, tick);
  for (const Forward& f : tick_) {
    LA_ASSIGN_OR_RETURN(bool begun, begin(f, *run.channel));
    if (!begun) run.blocks.count = f.block - run.blocks.first;
  }
  tick_ = schedule_.forwards(run.blocks, tick);  // without a block that did not begin
  return {};
}

void Denoiser::collect(Run& run, std::vector<ForwardState*>& forwards) {
  if (!run.status.ok()) return;
  run.status = check_stop(options_.stop);
  if (run.status.ok()) run.status = session_status();
  if (!run.status.ok()) return;
  for (const Forward& f : tick_) forwards.push_back(&memory_.session->activations.forwards[f.slot]);
}

// Of what a layer gave. A block that will be computed again goes on to the end of the tick, so that all pages are used
// in the order in which they come.
void Denoiser::check_layer(Run& run, int64_t layer) {
  const Sampling& sampling = options_.sampling;
  if (sampling.check_finite != CheckFinite::kLayer || !run.status.ok() || !fault_.ok()) return;
  const DitSession& session = *memory_.session;
  for (const Forward& f : tick_) {
    const Tensor x = session.activations.forwards[f.slot].x.slice(0, session.geometry.own_block_tokens());
    const Status found = check_finite(backend_, x, {f.block, steps_.first + f.step, layer});
    if (found.ok()) continue;
    Status& status = sampling.on_nan == OnNan::kRetry ? fault_ : run.status;
    status = found;
    return;
  }
}

// Of what the steps of this tick gave. A block that may have to be computed again is looked at before it is sent.
Status Denoiser::check_steps() {
  const Sampling& sampling = options_.sampling;
  for (const Forward& f : tick_) {
    const bool sends = f.step == steps_.count - 1 && sampling.on_nan == OnNan::kRetry;
    const int64_t step = steps_.first + f.step;
    const Tensor& latents = blocks_[f.slot].latents;
    if (sampling.check_finite != CheckFinite::kBlock) {
      LA_RETURN_IF_ERROR(check_finite(backend_, latents, {f.block, step}));
    } else if (sends) {
      LA_RETURN_IF_ERROR(check_finite(backend_, latents, {f.block}));
    }
  }
  return {};
}

// The block in flight, from its noise. Its keys and values are written over, and nothing else has seen them.
Status Denoiser::compute_again(Run& run, const Status& fault) {
  const Forward& f = tick_.front();
  if (options_.sampling.on_nan != OnNan::kRetry) return fault;
  if (again_ == f.block)
    return corrupt(fault.message() + "; it was computed twice, and the machine does not seem to be the cause");
  again_ = f.block;
  fault_ = {};
  run.repeated_ticks += f.step + 1;
  memory_.session->caches.forget_kept();
  return {};
}

Status Denoiser::end_tick(Run& run) {
  if (tick_.empty()) return {};
  LA_RETURN_IF_ERROR(session_status());
  for (const Forward& f : tick_) end(f);
  LA_RETURN_IF_ERROR(session_status());
  const Status fault = fault_.ok() ? check_steps() : fault_;
  if (fault.code() == ErrorCode::kCorrupt) return compute_again(run, fault);
  LA_RETURN_IF_ERROR(fault);
  const Forward& oldest = tick_.front();
  if (oldest.step < steps_.count - 1) return {};
  again_.reset();
  DitSession& session = *memory_.session;
  if (session.exchange != nullptr) LA_RETURN_IF_ERROR(session.exchange->finish());
  return run.channel->send(oldest.block, blocks_[oldest.slot].latents);
}

Expected<int64_t> Denoiser::run(DitWeightGroups& weights, const BlockRange& blocks, LatentChannel& channel,
                                int64_t begun) {
  Run alone{this, blocks, &channel, {}, begun};
  LA_RETURN_IF_ERROR(run_together(weights, {&alone, 1}));
  LA_RETURN_IF_ERROR(alone.status);
  return alone.blocks.count;
}

Status Denoiser::run_together(DitWeightGroups& weights, std::span<Run> runs) {
  LA_CHECK(!runs.empty());
  const Denoiser& first = *runs.front().denoiser;
  for (const Run& run : runs) {
    LA_CHECK(&run.denoiser->dit_ == &first.dit_);
    LA_CHECK(&run.denoiser->backend_ == &first.backend_);
  }
  std::vector<ForwardState*> forwards;
  for (int64_t tick = 0;; ++tick) {
    for (Run& run : runs) {
      if (run.status.ok()) run.status = contained("sample", [&] { return run.denoiser->begin_tick(run, tick); });
    }
    for (int64_t i = 0; i < first.dit_.config().layers; ++i) {
      forwards.clear();
      for (Run& run : runs) run.denoiser->collect(run, forwards);
      if (forwards.empty()) break;
      first.dit_.layer(i, weights, forwards);
      for (Run& run : runs) run.denoiser->check_layer(run, i);
    }
    if (forwards.empty()) return {};
    LA_RETURN_IF_ERROR(weights.status());
    for (Run& run : runs) {
      if (run.status.ok()) run.status = contained("sample", [&] { return run.denoiser->end_tick(run); });
    }
  }
}

}  // namespace liveavatar
