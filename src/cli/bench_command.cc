// `liveavatar bench`: benchmarks a checkpoint from portrait and voice to a video file, or the video model of any shape
// on synthetic weights, inside a budget.
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/embedded.h"
#include "cli/field_flags.h"
#include "cli/flags.h"
#include "cli/job_files.h"
#include "cli/live_bench.h"
#include "cli/model_flags.h"
#include "cli/pipeline_bench.h"
#include "cli/run_report.h"
#include "cli/stop_signal.h"
#include "core/json.h"
#include "core/status.h"
#include "media/image.h"
#include "ops/make_backend.h"
#include "pipeline/bench.h"
#include "pipeline/resolve.h"
#include "plan/renamed_keys.h"
#include "session/solver.h"

namespace liveavatar::cli {
namespace {

struct Flags {
  BenchOptions bench;             // with --synthetic
  PipelineBenchOptions pipeline;  // without; bench.shape has the flags of both
  LiveBenchOptions live;          // with --live, of the same checkpoint
  std::string shape = "mini", size = "128*128", json_file;
  int64_t infer_frames = 48;
  bool synthetic = false, is_live = false, quiet = false, no_online_decode = false;
  CLI::App* app = nullptr;
  std::vector<OutputClaim> outputs;  // --json
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar bench                                 the mini model and the demo of the repository\n"
    "  liveavatar bench --ckpt_dir models/mini --audio speech.wav --repeats 5 --json figures.json\n"
    "  liveavatar bench --live --size \"64*64\"            a voice at real time, with pauses (docs/live.md)\n"
    "  liveavatar bench --shape 14b --synthetic --size \"384*256\" --infer_frames 12 --blocks 1 --sample_steps 1 \\\n"
    "    --memory_budget 8GiB --paging_dir /var/tmp\n"
    "Of a checkpoint: loading, conditioning, sampling, decoding, encoding and muxing, as `generate` does; the video "
    "goes\n"
    "into a temporary file. --synthetic: weights, audio, prompt and portrait are synthetic: the frames mean\n"
    "nothing, memory, disk reads and time are real. Keys of --json: docs/performance.md, of --synthetic: "
    "docs/paging.md.";

// Groups of flags. Those of the other kind of benchmark are refused.
constexpr const char *kOfCheckpoint = "Of a checkpoint", *kSynthetic = "Synthetic weights", *kLive = "A live session";

void add_checkpoint(CLI::App& app, Flags& f) {
  PipelineBenchOptions& p = f.pipeline;
  p.job.prompt = "A friendly cartoon character talks to the camera.";
  const char* group = kOfCheckpoint;
  add_model_flags(app, p.engine, group);  // without any: the mini model that comes with the program
  app.add_option("--image", p.job.image, "The portrait (default: the demo's)")->group(group);
  app.add_option("--audio", p.job.audio, "The voice (default: the demo's)")->group(group);
  app.add_option("--prompt", p.job.prompt, "The sentence")->capture_default_str()->group(group);
  app.add_option("--num_clip", p.job.num_clip, "At most so many clips (default: as long as the voice)")
      ->check(CLI::Range(int64_t{1}, kMostClips))
      ->group(group);
  app.add_option("--repeats", p.repeats, "Runs to measure, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--no_online_decode", f.no_online_decode, "Decode at the end")->group(group);
  add_decode_flags(app, p.engine, group);
}

void add_live(CLI::App& app, Flags& f) {
  LiveRequest& r = f.live.request;
  app.add_flag("--live", f.is_live, "Push the voice at real time, as a microphone does, with pauses")->group(kLive);
  app.add_option("--seconds", f.live.seconds, "So long")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str()
      ->group(kLive);
  app.add_option("--sample_rate", r.sample_rate, "Of the pushed sound, in Hz")->capture_default_str()->group(kLive);
  app.add_option("--context_seconds", r.context_seconds, "Sound that the model hears before a block")
      ->capture_default_str()
      ->group(kLive);
  app.add_option("--look_ahead_seconds", r.look_ahead_seconds, "And behind it")->capture_default_str()->group(kLive);
  app.add_option("--queue_seconds", r.queue_seconds, "Most sound that may wait")->capture_default_str()->group(kLive);
}

void add_synthetic(CLI::App& app, Flags& f) {
  JobShape& r = f.bench.shape;
  const char* group = kSynthetic;
  app.add_flag("--synthetic", f.synthetic, "Benchmark a model shape (--shape) without a checkpoint")->group(group);
  app.add_option("--shape", f.shape, "14b, 1.3b or mini")
      ->check(CLI::IsMember({"14b", "1.3b", "mini"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--blocks", r.blocks, "Blocks of 12 frames")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->group(group);
  app.add_option("--resident_layers", f.bench.resident_layers,
                 "Keep this many layers in memory and page the others, whatever the budget")
      ->check(CLI::Range(0, 1024))
      ->group(group);
  app.add_option("--resident_kv_caches", f.bench.resident_kv_caches,
                 "Keep this many KV caches in memory, of steps times layers, and page the others")
      ->check(CLI::Range(0, 1 << 20))
      ->group(group);
  app.add_option("--sessions", f.bench.sessions, "Videos at once: one pass over the weights serves all")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group(group);
  app.add_flag("--keep", f.bench.keep, "Leave the paging file for the next bench of this shape")->group(group);
}

void add_both(CLI::App& app, Flags& f) {
  JobShape& r = f.bench.shape;
  app.add_option("--size", f.size, "As for generate: an area, as \"width*height\"")->capture_default_str();
  app.add_option("--infer_frames", f.infer_frames, "Frames a clip: the length of the KV caches")
      ->check(CLI::Range(1, 4800))
      ->capture_default_str();
  app.add_option("--sample_steps", r.steps, "Denoising steps a block")
      ->check(CLI::Range(1, kMostSteps))
      ->capture_default_str();
  add_schedule(app, r.schedule, "auto, sequential or wavefront");
  add_check_finite(app, f.bench.check_finite);
  add_memory(app, "--memory_budget", f.bench.limits.device_bytes, "Most memory of the run, e.g. 8GiB");
  add_memory(app, "--host_budget", f.bench.limits.host_bytes, "Most host memory beside a card (default: no limit)");
  app.add_option("--paging_dir", f.bench.paging_dir, "Folder on disk for weights and KV caches that do not fit");
  app.add_option("--device", r.device, "cpu, cuda or reference")->capture_default_str();
  add_dtype(app, r.dtype);
  add_weights_dtype(app, r.weights_dtype);
  add_kv_dtype(app, r.kv_dtype);
  add_activations_dtype(app, r.int8_products);
  add_tune(app, r.tune);
  add_threads(app, r.threads);
  app.add_option("--json", f.json_file, "Write the figures as JSON");
  app.add_flag("--quiet", f.quiet, "Print the figures only");
}

constexpr double kGiB = double(size_t{1} << 30);

std::string to_json(const Flags& f, const BenchResult& b, size_t measured_bytes) {
  const JobShape& r = b.shape;
  nlohmann::ordered_json json;
  json["job"] = {{"shape", f.shape},
                 {"width", r.width},
                 {"height", r.height},
                 {"clip_frames", r.clip_frames},
                 {"blocks", r.blocks},
                 {"steps", r.steps},
                 {"dtype", compute_type_name(r.dtype)},
                 {"weights_dtype", r.weights_name()},
                 {"kv_dtype", r.kv_name()},
                 {"activations_dtype", activations_name(r)},
                 {"device", r.device}};
  json["budget_bytes"] = f.bench.limits.device_bytes;
  json["host_predicted_peak_bytes"] = b.plan.host.peak_bytes;
  json["host_charged_peak_bytes"] = b.host_charged_peak_bytes;
  json["predicted_peak_bytes"] = b.predicted_peak_bytes;
  json["measured_peak_bytes"] = measured_bytes;
  json["charged_peak_bytes"] = b.charged_peak_bytes;
  json["layers"] = r.shapes.dit.layers;
  json["resident_layers"] = r.resident();
  json["schedule"] = schedule_name(r.schedule);
  json["blocks_in_flight"] = r.blocks_in_flight();
  json["ticks"] = b.ticks;
  json["paged_bytes"] = b.plan.paged_bytes;
  json["paged_bytes_per_block"] = b.plan.paged_block_bytes;
  json["run_bytes_read"] = b.weights.bytes_read;
  json["resident_kv_caches"] = r.kv_caches().in_memory();
  json["kv_cache_bytes_per_block"] = b.plan.kv_cache_bytes;
  json["host_layers"] = r.layers_beside();
  json["host_kv_caches"] = r.host_kv_caches;
  json["paged_disk_bytes"] = b.plan.paged_disk_bytes;
  json["weights_bytes_to_device"] = b.weights.bytes_to_device;
  json["kv_cache_bytes_to_device"] = b.kv_caches.bytes_to_device;
  json["kv_cache_bytes_from_device"] = b.kv_caches.bytes_from_device;
  json["kv_cache_bytes_read"] = b.kv_caches.bytes_read;
  json["kv_cache_bytes_written"] = b.kv_caches.bytes_written;
  json["prefill_bytes_read"] = b.prefill_bytes_read;
  json["direct_io"] = b.direct;
  const double waited_s = b.weights.seconds_waited + b.kv_caches.seconds_waited;
  json["seconds"] = {{"pack", b.pack_seconds},
                     {"load", b.load_seconds},
                     {"prefill", b.prefill_seconds},
                     {"run", b.run_seconds},
                     {"waited_for_pages", waited_s}};
  json["sessions"] = f.bench.sessions;
  json["frames_per_second"] = double(f.bench.sessions * kBlockFrames * r.blocks) / b.run_seconds;
  json["blocks"] = nlohmann::ordered_json::array();
  for (const SyntheticVideo::Block& block : b.blocks) {
    char sum[17];
    std::snprintf(sum, sizeof(sum), "%016llx", static_cast<unsigned long long>(block.checksum));
    json["blocks"].push_back({{"at_seconds", block.at_seconds}, {"latents", sum}});
  }
  add_renamed_keys(json);
  return json_text(json, 2);
}

void print(const BenchResult& b, int sessions, size_t measured_bytes) {
  const JobShape& r = b.shape;
  double blocks = double(r.blocks), read = double(b.weights.bytes_read);
  std::printf("%ldx%ld, %ld blocks, %ld steps, %s: %ld of %ld layers in memory, %s, %ld in flight\n", long(r.width),
              long(r.height), long(r.blocks), long(r.steps), compute_type_name(r.dtype), long(r.resident()),
              long(r.shapes.dit.layers), schedule_name(r.schedule), long(r.blocks_in_flight()));
  std::printf("memory     %.3f GiB planned, %.3f GiB measured (VmHWM), %.3f GiB charged\n",
              double(b.predicted_peak_bytes) / kGiB, double(measured_bytes) / kGiB,
              double(b.charged_peak_bytes) / kGiB);
  std::printf("time       pack %.1f s, load %.1f s, sink %.1f s, blocks %.1f s: %.1f s a block\n", b.pack_seconds,
              b.load_seconds, b.prefill_seconds, b.run_seconds, b.run_seconds / blocks);
  if (sessions > 1)
    std::printf("sessions   %d at once: %.2f frames/s together\n", sessions,
                double(sessions * kBlockFrames) * blocks / b.run_seconds);
  if (r.kv_caches_paged()) {
    std::printf(
        "KV caches  %ld of %ld in memory, %.3f GiB of others; %.3f GiB read, %.3f GiB written a block; waited %.1f s\n",
        long(r.kv_caches().in_memory()), long(r.kv_caches().count()), double(b.plan.kv_cache_bytes) / kGiB,
        double(b.kv_caches.bytes_read) / kGiB / blocks, double(b.kv_caches.bytes_written) / kGiB / blocks,
        b.kv_caches.seconds_waited);
  }
  const double over_link = double(b.weights.bytes_to_device + b.kv_caches.bytes_to_device);
  if (over_link > 0) {
    std::printf("link       %.3f GiB to the card a block, %.3f GiB back; %ld layers and %ld KV caches in host memory\n",
                over_link / kGiB / blocks, double(b.kv_caches.bytes_from_device) / kGiB / blocks,
                long(r.layers_beside()), long(r.host_kv_caches));
  }
  if (b.plan.paged_disk_bytes == 0) return;
  std::printf("disk       %.3f GiB paged, %.3f GiB read a block, %.3f GiB a tick (%.3f of what is paged), %s\n",
              double(b.plan.paged_disk_bytes) / kGiB, read / kGiB / blocks, read / kGiB / double(b.ticks),
              read / double(b.ticks) / double(b.plan.paged_disk_bytes),
              b.direct ? "O_DIRECT" : "through the page cache");
  std::printf("           %.3f GiB/s while blocks were made, of %.1f s they waited %.1f s for pages\n",
              read / kGiB / b.run_seconds, b.run_seconds, b.weights.seconds_waited);
}

Status set_job(Flags& f) {
  JobShape& r = f.bench.shape;
  MemoryLimits& limits = f.bench.limits;
  if (!is_card(r.device)) limits = {smaller_limit(limits.device_bytes, limits.host_bytes), 0};
  LA_ASSIGN_OR_RETURN(r.shapes, named_model_shapes(f.shape));
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(f.size));
  LA_ASSIGN_OR_RETURN(WorkingSize size, working_size(sides.height, sides.width, sides.area()));
  r.height = size.height;
  r.width = size.width;
  r.clip_frames = clip_frames(f.infer_frames);
  return {};
}

Status refuse_group(const CLI::App& app, const char* group, const std::string& why) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group() == group && option->count() > 0)
      return invalid_argument("--" + option->get_lnames().front() + why);
  }
  return {};
}

// As for generate: no output is an input, and each can be written.
Status claim(Flags& f, const std::vector<NamedPath>& inputs) {
  const std::string& folder = f.bench.paging_dir;
  if (!folder.empty()) LA_RETURN_IF_ERROR(check_writable_folder({"--paging_dir", folder}));
  std::vector<NamedPath> outputs;
  if (!f.json_file.empty()) outputs.push_back({"--json", f.json_file});
  LA_ASSIGN_OR_RETURN(f.outputs, claim_outputs(inputs, outputs));
  return {};
}

int synthetic_bench(Flags& f) {
  Status of_checkpoint =
      refuse_group(*f.app, kOfCheckpoint, ": --synthetic reads no checkpoint, image or audio; leave one of them out");
  if (of_checkpoint.ok()) of_checkpoint = refuse_group(*f.app, kLive, " is of a checkpoint; leave out --synthetic");
  if (!of_checkpoint.ok()) return report(of_checkpoint);
  if (Status status = set_job(f); !status.ok()) return report(status);
  std::vector<NamedPath> inputs;
  add_engine_inputs(inputs, {.paging_dir = f.bench.paging_dir});
  if (Status status = claim(f, inputs); !status.ok()) return report(status);
  StopSignal::Cleaning cleaning(f.outputs);
  f.bench.stop = StopSignal::token();
  if (!f.quiet) f.bench.say = [](const std::string& line) { std::fprintf(stderr, "%s\n", in_flags(line).c_str()); };
  auto result = run_bench(f.bench);
  if (!result.ok()) return report(result.status());
  size_t measured = peak_resident_bytes();
  print(*result, f.bench.sessions, measured);
  Status written = f.outputs.empty() ? Status() : f.outputs.front().write(to_json(f, *result, measured));
  return written.ok() ? 0 : report(written);
}

Status set_pipeline(Flags& f) {
  LA_RETURN_IF_ERROR(refuse_group(*f.app, kSynthetic, " is for synthetic weights; add --synthetic"));
  if (!f.is_live) LA_RETURN_IF_ERROR(refuse_group(*f.app, kLive, " is of a live session; add --live"));
  PipelineBenchOptions& p = f.pipeline;
  LA_RETURN_IF_ERROR(find_local_files(p.engine));
  if (!names_model(p.engine)) LA_RETURN_IF_ERROR(use_embedded_model(p.engine));
  if (p.job.image.empty()) {
    LA_ASSIGN_OR_RETURN(p.job.image, embedded_path("assets/demo/portrait.png"));
  }
  if (p.job.audio.empty()) {
    LA_ASSIGN_OR_RETURN(p.job.audio, embedded_path("assets/demo/voice.wav"));
  }
  const JobShape& r = f.bench.shape;
  p.engine.device = r.device;
  p.engine.dtype = r.dtype;
  p.engine.weights_dtype = r.weights_dtype;
  p.engine.kv_dtype = r.kv_dtype;
  p.engine.int8_products = r.int8_products;
  p.engine.tune = r.tune;
  p.engine.threads = r.threads;
  p.engine.memory_budget_bytes = f.bench.limits.device_bytes;
  p.engine.host_budget_bytes = f.bench.limits.host_bytes;
  p.engine.paging_dir = f.bench.paging_dir;
  p.job.size = f.size;
  p.job.infer_frames = f.infer_frames;
  p.job.sample_steps = static_cast<int>(r.steps);
  p.job.schedule = r.schedule;
  p.job.check_finite = f.bench.check_finite;
  p.job.online_decode = !f.no_online_decode;
  p.quiet = f.quiet;
  return {};
}

Expected<LiveBenchResult> live_bench(Flags& f) {
  const GenerateRequest& job = f.pipeline.job;
  LiveBenchOptions& live = f.live;
  live.engine = f.pipeline.engine;
  live.audio = job.audio;
  live.request.image = job.image;
  live.request.prompt = job.prompt;
  live.request.size = job.size;
  live.request.infer_frames = job.infer_frames;
  live.request.sample_steps = job.sample_steps;
  return run_live_bench(live);
}

// Runs, prints the table, and writes the figures.
template <typename Run>
int run_and_print(Flags& f, const Run& run) {
  auto result = run();
  if (!result.ok()) return report(result.status());
  print_table(*result);
  Status written = f.outputs.empty() ? Status() : f.outputs.front().write(to_json(*result));
  return written.ok() ? 0 : report(written);
}

int pipeline_bench(Flags& f) {
  if (Status status = set_pipeline(f); !status.ok()) return report(status);
  std::vector<NamedPath> inputs;
  add_input(inputs, "--image", f.pipeline.job.image);
  add_input(inputs, "--audio", f.pipeline.job.audio);
  add_engine_inputs(inputs, f.pipeline.engine);
  if (Status status = claim(f, inputs); !status.ok()) return report(status);
  StopSignal::Cleaning cleaning(f.outputs);
  if (f.is_live) return run_and_print(f, [&] { return live_bench(f); });
  return run_and_print(f, [&] { return run_pipeline_bench(f.pipeline); });
}

// A stopped bench releases its claims before the program ends: an output that was not written is removed.
int bench(Flags& f) {
  StopSignal stop("nothing is written");
  if (std::string note = threads_note(f.bench.shape.threads); !note.empty() && !f.quiet)
    std::fprintf(stderr, "%s\n", note.c_str());
  const int code = f.synthetic ? synthetic_bench(f) : pipeline_bench(f);
  f.outputs.clear();
  return code;
}

}  // namespace

Command add_bench(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "bench", "Benchmark a checkpoint from portrait to video file, or a model shape without a checkpoint");
  flags->app = command;
  command->footer(kFooter);
  command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_checkpoint(*command, *flags);
  add_live(*command, *flags);
  add_synthetic(*command, *flags);
  add_both(*command, *flags);
  return [flags] { return bench(*flags); };
}

}  // namespace liveavatar::cli
