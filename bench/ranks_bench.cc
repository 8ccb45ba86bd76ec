// ranks_bench CKPT_DIR IMAGE [SIZE] [CLIPS] [ROUNDS]: one video on one rank and on several of this process, one thread
// each; seconds of sampling alone and of the whole, what each rank waited, and what the simulation of ranks says of the
// same numbers. The simulation knows runs of one rank alone, of which there are two side by side, as two ranks keep
// both cores busy. Medians of ROUNDS, in turns. The audio is made of zeros. By hand (docs/performance.md).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "exchange_bench.h"
#include "pipeline/engine.h"
#include "plan/rank_simulation.h"
#include "plan/work.h"

namespace liveavatar {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kFewTokens = "64*64";

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
  std::string size;     // empty: as asked for
  bool beside = false;  // another video of the kind on the other core
};

struct Timing {
  double prefill_s = 0, video_s = 0;
  std::vector<RankReport> ranks;
  JobShape shape;
  double latents = 0;  // their sum: equal in every mode
};

// One mode's, a round each.
class Runs {
 public:
  void add(Timing run) { runs_.push_back(std::move(run)); }
  Timing median() const {
    std::vector<Timing> sorted = runs_;
    std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.video_s < b.video_s; });
    return sorted[sorted.size() / 2];
  }

 private:
  std::vector<Timing> runs_;
};

class RanksBench {
 public:
  RanksBench(std::string checkpoint, GenerateRequest request)
      : checkpoint_(std::move(checkpoint)), request_(std::move(request)) {}

  Status run(const Mode& mode, Runs& runs) const {
    if (!mode.beside) return run_one(mode, runs);
    Runs other;
    Status status;
    std::jthread beside([&] { status = run_one(mode, other); });
    LA_RETURN_IF_ERROR(run_one(mode, runs));
    beside.join();
    return status;
  }

 private:
  Status run_one(const Mode& mode, Runs& runs) const {
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
    if (!mode.size.empty()) request.size = mode.size;
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
    runs.add(std::move(timing));
    return {};
  }

  std::string checkpoint_;
  GenerateRequest request_;
};

// From runs of one rank: with one step and with four, of few tokens, and with frames.
struct Parts {
  double audio_s = 0, step_s = 0, decode_s = 0, prefill_s = 0;  // audio and decode: a block
  double whole_s = 0;                                           // of a step: what more tokens do not make longer
  double by_heads = 0;                                          // of the rest
};

RankSimulation simulate(const Timing& t, const Parts& parts, const Mode& mode, const Link& link) {
  const JobShape& s = t.shape;
  const DitGeometry g = s.geometry();
  StageTimes times;
  // Each rank encodes a block's audio once.
  times.step.whole_s = parts.whole_s + parts.audio_s * double(s.placement.stages.size()) / double(s.steps);
  times.step.by_heads_s = (parts.step_s - parts.whole_s) * parts.by_heads;
  times.step.by_tokens_s = parts.step_s - parts.whole_s - times.step.by_heads_s;
  times.step.exchanges = 2 * s.shapes.dit.layers;
  times.step.exchange_bytes = exchanged_bytes(s) * double(s.shapes.dit.layers);
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

// The runs of one rank that the parts come from.
struct PartRuns {
  Runs four_steps, one_step, few_four_steps, few_one_step, frames;

  Status run(const RanksBench& bench, bool beside) {
    auto mode = [&](const char* size, int steps, bool with_frames = false) {
      return Mode{"", "", 1, false, with_frames, steps, "", size, beside};
    };
    LA_RETURN_IF_ERROR(bench.run(mode("", 4), four_steps));
    LA_RETURN_IF_ERROR(bench.run(mode("", 1), one_step));
    LA_RETURN_IF_ERROR(bench.run(mode(kFewTokens, 4), few_four_steps));
    LA_RETURN_IF_ERROR(bench.run(mode(kFewTokens, 1), few_one_step));
    return bench.run(mode("", 4, true), frames);
  }

  Parts parts() const {
    const Timing four = four_steps.median();
    const JobShape shape = four.shape, few = few_four_steps.median().shape;
    const double blocks = double(shape.blocks);
    Parts parts;
    parts.prefill_s = four.prefill_s;
    const double resinks_s = shape.blocks > shape.clip_blocks() ? parts.prefill_s : 0;
    parts.step_s = (four.video_s - one_step.median().video_s) / blocks / 3;
    parts.audio_s = (four.video_s - resinks_s) / blocks - 4 * parts.step_s;
    parts.decode_s = (frames.median().video_s - four.video_s) / blocks;
    const Work work = work_per_block(shape, {});
    parts.by_heads = (work.attention_flops - work.prompt_flops) / work.dit_flops();
    // The attention's time goes with the square of the tokens.
    const double few_step_s = (few_four_steps.median().video_s - few_one_step.median().video_s) / blocks / 3;
    const double fewer = double(few.width * few.height) / double(shape.width * shape.height);
    const double shrinks = fewer * (1 - parts.by_heads) + fewer * fewer * parts.by_heads;
    parts.whole_s = std::max(0.0, (few_step_s - shrinks * parts.step_s) / (1 - shrinks));
    return parts;
  }
};

void print(const char* what, const Parts& parts) {
  std::printf("%s, ms: a step %.2f (%.2f of it whole), a block's audio %.2f, its decoding %.2f, prefill %.2f\n", what,
              1e3 * parts.step_s, 1e3 * parts.whole_s, 1e3 * parts.audio_s, 1e3 * parts.decode_s,
              1e3 * parts.prefill_s);
}

Status bench(const std::string& checkpoint, const GenerateRequest& request, int rounds) {
  const RanksBench bench(checkpoint, request);
  const std::vector<Mode> modes{{"2 stages", "cpu:2", 1, false, false, 4, "2,2"},
                                {"2 share each step", "cpu:2", 2},
                                {"2 stages, frames", "cpu:2", 1, false, true},
                                {"VAE rank and 1, frames", "cpu:2", 1, true, true}};
  PartRuns alone, beside;
  std::vector<Runs> runs(modes.size());
  for (int round = 0; round < rounds; ++round) {
    LA_RETURN_IF_ERROR(alone.run(bench, false));
    LA_RETURN_IF_ERROR(beside.run(bench, true));
    for (size_t i = 0; i < modes.size(); ++i) LA_RETURN_IF_ERROR(bench.run(modes[i], runs[i]));
  }
  const JobShape shape = alone.four_steps.median().shape;
  const Link link = measure_exchange(shape);
  std::printf("%ld x %ld, %ld blocks; an exchange %.1f us and %.2f GB/s\n", long(shape.width), long(shape.height),
              long(shape.blocks), 1e6 * link.latency_s, link.bytes_per_s / 1e9);
  print("one video", alone.parts());
  print("one of two videos side by side", beside.parts());
  std::printf("two videos side by side: %.2fx the frames/s of one\n",
              2 * alone.four_steps.median().video_s / beside.four_steps.median().video_s);
  std::printf("%-28s %8s %8s %7s %10s %8s   waited s, each rank\n", "", "s", "frames/s", "speed", "simulated", "error");
  for (size_t i = 0; i < modes.size(); ++i) {
    const Timing one = modes[i].frames ? alone.frames.median() : alone.four_steps.median(), timing = runs[i].median();
    print(modes[i], timing, one, simulate(timing, beside.parts(), modes[i], link));
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
