// ranks_bench CKPT_DIR IMAGE [SIZE] [CLIPS] [ROUNDS]: one video on one rank and on several of this process, one thread
// each; seconds of sampling alone and of the whole, what each rank waited, and what the simulation of ranks says of the
// same numbers. Best of ROUNDS, in turns. The audio is made of zeros. By hand (docs/performance.md).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "parallel/local_group.h"
#include "pipeline/engine.h"
#include "plan/rank_simulation.h"
#include "plan/work.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

class Silence : public AudioColumns {
 public:
  int64_t count() const override { return 1; }
  Expected<bool> columns(int64_t, int64_t, float*) override { return true; }
};

struct Mode {
  std::string name, devices;
  int ulysses_size = 1;
  bool vae_parallel = false;
  bool frames = false;
  int steps = 4;
  std::string step_shares;
};

struct Timing {
  double prefill_s = 0, video_s = 1e9;
  std::vector<RankReport> ranks;
  JobShape shape;
  double latents = 0;  // their sum: equal in every mode
};

class RanksBench {
 public:
  RanksBench(std::string checkpoint, GenerateRequest request)
      : checkpoint_(std::move(checkpoint)), request_(std::move(request)) {}

  Status run(const Mode& mode, Timing& best) const {
    EngineOptions options;
    options.checkpoint_dir = checkpoint_;
    options.devices = mode.devices;
    options.ulysses_size = mode.ulysses_size;
    options.vae_parallel = mode.vae_parallel;
    options.step_shares = mode.step_shares;
    options.threads = mode.devices.empty() ? 1 : std::atoi(mode.devices.c_str() + 4);
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options));
    LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
    GenerateRequest request = request_;
    request.sample_steps = mode.steps;
    LA_ASSIGN_OR_RETURN(ResolvedJob job, resolve(resolve_options(engine->checkpoint()), request));
    Silence silence;
    Timing timing;
    timing.shape = job.shape;
    Clock::time_point prefill, sample;
    RunCalls calls;
    calls.hooks.audio = &silence;
    calls.hooks.no_frames = !mode.frames;
    calls.hooks.latents = [&](int64_t, const Tensor& t) {
      for (int64_t i = 0; i < t.elements(); ++i) timing.latents += double(t.host<float>()[i]);
    };
    calls.rank_reports = &timing.ranks;
    calls.on_chunk = [](const VideoChunk&) { return true; };
    calls.on_progress = [&](const Progress& p) {
      if (p.stage == Stage::kPrefill) prefill = Clock::now();
      if (p.stage != Stage::kSample || p.block > 0) return;
      sample = Clock::now();
      timing.prefill_s = seconds_since(prefill);
    };
    LA_RETURN_IF_ERROR(engine->run(job, calls));
    timing.video_s = seconds_since(sample);
    if (timing.video_s < best.video_s) best = timing;
    return {};
  }

 private:
  std::string checkpoint_;
  GenerateRequest request_;
};

// Of one message of so many bytes and its answer.
Link measure_link() {
  auto exchange_s = [](size_t bytes) {
    constexpr int kTurns = 2000;
    auto groups = open_local_groups({"cpu", "cpu"});
    const Clock::time_point began = Clock::now();
    auto turns = [&](Group& group) {
      std::vector<std::byte> out(bytes), in(bytes);
      const int other = 1 - group.rank();
      for (int i = 0; i < kTurns; ++i) {
        const bool sent = group.start_send(other, Tag::kExchange, out).ok() &&
                          group.receive(other, Tag::kExchange, in).ok() &&
                          group.finish_send(other, Tag::kExchange).ok();
        if (!sent) return;
      }
    };
    std::jthread other([&] { turns(*groups[1]); });
    turns(*groups[0]);
    return seconds_since(began) / kTurns;
  };
  constexpr size_t kLarge = size_t{256} << 10;
  const double small_s = exchange_s(64), large_s = exchange_s(kLarge);
  return {double(kLarge) / std::max(1e-9, large_s - small_s), small_s};
}

// From runs of one rank: with one step and with four, and with frames.
struct Parts {
  double audio_s = 0, step_s = 0, decode_s = 0, prefill_s = 0;  // audio and decode: a block
  double by_heads = 0;                                          // of a step
};

RankSimulation simulate(const Timing& t, const Parts& parts, const Mode& mode, const Link& link) {
  const JobShape& s = t.shape;
  const DitGeometry g{s.height / 8, s.width / 8, s.clip_latents(), kBlockLatents};
  StageTimes times;
  // Each rank encodes a block's audio once.
  times.step.whole_s = parts.audio_s * double(s.placement.stages.size()) / double(s.steps);
  times.step.by_heads_s = parts.step_s * parts.by_heads;
  times.step.by_tokens_s = parts.step_s - times.step.by_heads_s;
  times.step.exchanges = 2 * s.shapes.dit.layers;
  times.step.exchange_bytes =
      4 * double(g.block_tokens() * s.shapes.dit.dim * s.shapes.dit.layers) * double(dtype_bytes(s.types().values));
  times.prefill.by_tokens_s = parts.prefill_s;
  times.heads = s.shapes.dit.heads;
  times.tokens = g.latent_tokens();
  times.decode_s = mode.frames ? parts.decode_s : 0;
  const double latents = double(s.shapes.dit.channels * g.latent_height * g.latent_width) * 4;
  times.finished_bytes = 3 * latents;
  times.block_bytes = 4 * latents;
  times.reference_bytes = latents;
  return simulate_ranks(s.placement, {s.blocks, s.clip_blocks()}, times, link);
}

void print(const Mode& mode, const Timing& t, const Timing& one, const RankSimulation& simulated) {
  const double frames = double(t.shape.blocks * kBlockFrames), measured = frames / t.video_s;
  // The simulation begins before the first prefill.
  const double predicted = frames / (simulated.seconds - t.prefill_s);
  std::printf("%-28s %8.2f %8.1f %6.2fx %10.1f %+6.1f %%  ", mode.name.c_str(), t.video_s, measured,
              one.video_s / t.video_s, predicted, 100 * (predicted / measured - 1));
  for (const RankReport& rank : t.ranks) std::printf(" %.2f", rank.waited_s);
  std::printf("%s\n", t.latents == one.latents ? "" : "  NOT THE SAME VIDEO");
}

Status bench(const std::string& checkpoint, const GenerateRequest& request, int rounds) {
  const RanksBench bench(checkpoint, request);
  std::vector<Mode> modes{{"one", ""},
                          {"one, one step", "", 1, false, false, 1},
                          {"one, with frames", "", 1, false, true},
                          {"2 stages", "cpu:2", 1, false, false, 4, "2,2"},
                          {"2 share each step", "cpu:2", 2},
                          {"2 stages, frames", "cpu:2", 1, false, true},
                          {"VAE rank and 1, frames", "cpu:2", 1, true, true}};
  std::vector<Timing> timings(modes.size());
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < modes.size(); ++i) LA_RETURN_IF_ERROR(bench.run(modes[i], timings[i]));
  const Timing &one = timings[0], &one_step = timings[1], &whole = timings[2];
  const double blocks = double(one.shape.blocks);
  Parts parts;
  parts.prefill_s = one.prefill_s;
  const double resinks_s = one.shape.blocks > one.shape.clip_blocks() ? one.prefill_s : 0;
  parts.step_s = (one.video_s - one_step.video_s) / blocks / 3;
  parts.audio_s = (one.video_s - resinks_s) / blocks - 4 * parts.step_s;
  parts.decode_s = (whole.video_s - one.video_s) / blocks;
  const Work work = work_per_block(one.shape, {});
  parts.by_heads = (work.attention_flops - work.prompt_flops) / work.dit_flops();
  const Link link = measure_link();
  std::printf(
      "%ld x %ld, %ld blocks. ms: a step %.2f, a block's audio %.2f, its decoding %.2f, prefill %.2f; a message "
      "%.1f us and %.2f GB/s\n",
      long(one.shape.width), long(one.shape.height), long(one.shape.blocks), 1e3 * parts.step_s, 1e3 * parts.audio_s,
      1e3 * parts.decode_s, 1e3 * parts.prefill_s, 1e6 * link.latency_s, link.bytes_per_s / 1e9);
  std::printf("%-28s %8s %8s %7s %10s %8s   waited s, each rank\n", "", "s", "frames/s", "speed", "simulated", "error");
  for (size_t i = 0; i < modes.size(); ++i) {
    const bool frames = modes[i].frames;
    if (i == 1) continue;
    print(modes[i], timings[i], frames ? whole : one, simulate(timings[i], parts, modes[i], link));
  }
  return {};
}

}  // namespace
}  // namespace liveavatar

int main(int argc, char** argv) {
  using namespace liveavatar;
  if (argc < 3) {
    std::fprintf(stderr, "ranks_bench CKPT_DIR IMAGE [SIZE] [CLIPS] [ROUNDS]\n");
    return 2;
  }
  GenerateRequest request;
  request.image = argv[2];
  request.size = argc > 3 ? argv[3] : "128*128";
  request.num_clip = argc > 4 ? std::atol(argv[4]) : 31;  // 60 s
  const Status status = bench(argv[1], request, argc > 5 ? std::atoi(argv[5]) : 3);
  if (!status.ok()) std::fprintf(stderr, "ranks_bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
