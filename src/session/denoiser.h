// Denoising of blocks: the DiT, its caches and the solver's steps. A denoiser owns a range of the steps and a range of
// the heads: on one device all of them (docs/many_devices.md).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/state_visitor.h"
#include "models/s2v_dit/s2v_dit.h"
#include "session/block_schedule.h"
#include "session/memory.h"
#include "session/placement.h"
#include "session/solver.h"

namespace liveavatar {

// How a job is sampled. It decides no memory; JobShape has what does.
struct Sampling {
  SampleSolver solver = SampleSolver::kEuler;
  double shift = 3.0;
  uint64_t seed = 420;
  int64_t relative_dist = 0;                       // 0: drawn for every forward from seed, block and step; else 4..30
  CheckFinite check_finite = CheckFinite::kBlock;  // the block's own is the channel's, where it is used
  OnNan on_nan = OnNan::kStop;
};

// kUnsupported where a block cannot be computed again, and `on_nan` asks for it: what other blocks or ranks have of it
// would be wrong.
Status check_retry(const JobShape& shape, const Sampling& sampling);

// Where a denoiser's blocks come from and where they go: conditioning and decoding, or denoisers of the steps before
// and after it.
class LatentChannel {
 public:
  virtual ~LatentChannel() = default;
  // Before a block's first step. Nothing: the video ends before this block.
  virtual Expected<std::optional<BlockStart>> receive(int64_t block) = 0;
  // Between two ticks, before a block begins: the time to keep the denoiser's state. The range, and how
  // many of its blocks have begun.
  virtual Status before(const BlockRange&, int64_t) { return {}; }
  // Of a block that was received: its noise once more, to be computed again.
  virtual Status renew(int64_t, const Tensor&) { return unsupported("this block cannot be computed again"); }
  // After its last, in order.
  virtual Status send(int64_t block, const Tensor& latents) = 0;
};

// One video. All memory is taken in open(). Not thread-safe.
class Denoiser {
 public:
  struct Options {
    Sampling sampling;
    std::string cache_folder;  // where keys and values are that do not stay in memory
    std::stop_token stop;      // heard at every layer: kCancelled
    Group* stage = nullptr;    // the ranks that share its steps (shape.rank.share); outlives it
  };
  // Of the model's shapes; the memory is that of shape, with the KV caches of its own steps and heads. Less than all
  // steps: kUnsupported unless with Euler.
  static Expected<std::unique_ptr<Denoiser>> open(const S2vDit& dit, Backend& backend, Budget& budget,
                                                  const JobShape& shape, const Options& options);

  // rows [tokens, text_dim] f32 of the prompt.
  void set_prompt(const Tensor& rows);
  // (Re)fills the sink: reference [16, 1, h, w], motion [16, 19, h, w], f32. The KV caches of blocks stay.
  Status prefill(DitWeightGroups& weights, const Tensor& reference, const Tensor& motion);
  // Forgets all blocks, between two calls of run(): the next is block 0, of another video with this one's prompt and
  // sampling. Its sink is to be filled first.
  void restart();
  // Denoises blocks, until the range or the channel ends. Between two calls nothing is in flight: the time to renew the
  // sink. Returns how many blocks were sent. begun: so many of the range are begun already, in the state that
  // visit_state() gave back; those that were sent count too.
  Expected<int64_t> run(DitWeightGroups& weights, const BlockRange& blocks, LatentChannel& channel, int64_t begun = 0);
  // In LatentChannel::before(), or before run(): keys and values, and the blocks in flight, whose places are in
  // `memory`.
  struct Moment {
    BlockRange blocks;
    int64_t begun = 0;
  };
  Status visit_state(const Moment& moment, const BlockMemory& memory, StateVisitor& visitor);
  // Blocks of the range that were sent at that moment.
  int64_t sent(int64_t begun) const { return schedule_.done(begun, schedule_.steps - 1); }
  // Those that have begun and were not sent.
  BlockRange in_flight(const Moment& moment) const {
    return {moment.blocks.first + sent(moment.begun), moment.begun - sent(moment.begun)};
  }

  // Of several videos side by side, each by a denoiser of its own on one model: a layer's weights serve the forwards of
  // all. Each video's bits are those of a run alone. A video whose channel ends, fails or is stopped leaves the others
  // undisturbed, also one whose channel throws; its status is with its run. At least one; all on one backend.
  struct Run {
    Denoiser* denoiser = nullptr;
    BlockRange blocks;  // becomes shorter where the channel ends before
    LatentChannel* channel = nullptr;
    Status status;
    int64_t begun = 0;           // of run()
    int64_t repeated_ticks = 0;  // of blocks that are computed again
  };
  // An error of what all share: the weights.
  static Status run_together(DitWeightGroups& weights, std::span<Run> runs);

  // Of keys and values that are not all in memory.
  PagingCounts cache_counts() const { return memory_.session->caches.kv->counts(); }
  // HeadExchange::link() of ranks that share its steps; empty: none do.
  std::string link() const;

 private:
  Denoiser(const S2vDit& dit, Backend& backend, const Options& options)
      : dit_(dit), backend_(backend), options_(options) {}
  void expect_caches(const BlockRange& blocks, int64_t tick);
  // The forwards of one tick begin, and after all layers end.
  Status begin_tick(Run& run, int64_t tick);
  // Of what its forwards need: KV caches, the ranks that share its steps.
  Status session_status() const;
  // Adds the forwards of this tick to those that go through the next layer; a video that is stopped goes no further.
  void collect(Run& run, std::vector<ForwardState*>& forwards);
  void check_layer(Run& run, int64_t layer);
  Status end_tick(Run& run);
  Status check_steps();
  Status compute_again(Run& run, const Status& fault);
  int64_t relative_dist(int64_t block, int64_t step) const;
  // false: the channel ends before this block.
  Expected<bool> begin(const Forward& forward, LatentChannel& channel);
  void end(const Forward& forward);
  Status open_exchange(const JobShape& shape, Budget& budget);
  Status visit_keys(const Moment& moment, StateVisitor& visitor);
  Status visit_in_flight(const Moment& moment, const BlockMemory& memory, StateVisitor& visitor);

  const S2vDit& dit_;
  Backend& backend_;
  Options options_;
  StepRange steps_;
  BlockSchedule schedule_;  // of its own steps
  Solver solver_;           // of all steps
  Charge link_buffers_;     // Backend::link_bytes()
  Buffer exchange_staging_;
  SamplerMemory memory_;
  std::vector<BlockStart> blocks_;  // in flight
  std::vector<Forward> tick_;       // forwards of this tick
  std::vector<Tensor> history_;     // the solver's, block after block in flight
  Status fault_;                    // of a layer in this tick, whose block will be computed again
  std::optional<int64_t> again_;    // the block that is
};

}  // namespace liveavatar
