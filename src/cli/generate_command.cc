// `liveavatar generate`: the original's flags under their names, and ours.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/original_flags.h"
#include "cli/progress.h"
#include "cli/run_report.h"
#include "cli/video_job.h"
#include "core/status.h"
#include "liveavatar/liveavatar.h"
#include "pipeline/job.h"

namespace liveavatar::cli {
namespace {

std::atomic<int> g_stop_requests{0};

void on_stop_signal(int) {
  if (g_stop_requests.fetch_add(1) >= 1)
    std::_Exit(130);  // asked twice: go at once; the file plays up to its last second
}

struct Flags {
  EngineOptions engine;
  Job job;
  OriginalFlags original;
  std::string fit = "cover";
  std::string save_file, save_dir, report_file;
  bool online_decode = false, no_online_decode = false, fp8 = false, quiet = false;
  int64_t base_seed = -1;
  CLI::App* app = nullptr;
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar generate --ckpt_dir ckpt/Wan2.2-S2V-14B --lora_path_dmd ckpt/Live-Avatar \\\n"
    "    --image me.jpg --audio speech.wav --prompt \"A woman explains a recipe.\" --size \"688*368\"\n"
    "  liveavatar generate --ckpt_dir models/mini --image me.png --audio hello.mp3 --prompt \"hi\" --size \"128*128\"\n"
    "Dashes and underscores are the same in flag names. Exit codes: 0 done, 1 failed, 2 usage, 130 stopped.";

// Flags of the original that mean nothing here: taken, and said so in one line.
struct Accepted {
  const char* name;
  bool takes_value;
};
constexpr Accepted kAccepted[] = {{"task", true},
                                  {"ulysses_size", true},
                                  {"t5_fsdp", false},
                                  {"dit_fsdp", false},
                                  {"training_config", true},
                                  {"load_lora", false},
                                  {"convert_model_dtype", false},
                                  {"single_gpu", false},
                                  {"num_gpus_dit", true},
                                  {"enable_vae_parallel", false},
                                  {"sample_guide_scale", true},
                                  {"using_merged_ckpt", false},
                                  {"drop_motion_noisy", false},
                                  {"start_from_ref", false},
                                  {"frame_num", true},
                                  {"use_dataset", false}};

void add_inputs(CLI::App& app, Flags& f) {
  app.add_option("--image", f.job.image, "The portrait: any picture FFmpeg or libheif reads")
      ->required()
      ->group("What to make");
  app.add_option("--audio", f.job.audio, "The voice: any sound FFmpeg reads, of any length")
      ->required()
      ->group("What to make");
  app.add_option("--prompt", f.job.prompt, "A sentence that describes the person and the scene")->group("What to make");
  app.add_option("--size", f.job.size,
                 "An area, as \"width*height\": the portrait's aspect decides the shape,\nsides are multiples of 64")
      ->capture_default_str()
      ->group("What to make");
  app.add_option("--fit", f.fit,
                 "cover: the portrait fills the frame, upright; original: the Python original's rule,\n"
                 "which can leave black bars and ignores EXIF rotation")
      ->check(CLI::IsMember({"cover", "original"}))
      ->capture_default_str()
      ->group("What to make");
  app.add_option("--num_clip", f.job.num_clip,
                 "At most this many clips of --infer_frames frames (default: as long as the voice)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->group("What to make");
  app.add_option("--infer_frames", f.job.infer_frames, "Frames a clip; rounded up to a multiple of 12")
      ->check(CLI::Range(1, 4800))
      ->capture_default_str()
      ->group("What to make");
  app.add_option("--save_file", f.save_file, "The video to write (default: <portrait>_<voice>.mp4)")
      ->group("What to make");
  app.add_option("--save_dir", f.save_dir, "Folder for the default name")->group("What to make");
}

void add_sampling(CLI::App& app, Flags& f) {
  app.add_option("--sample_steps", f.job.sample_steps, "Denoising steps a block")
      ->check(CLI::Range(1, 50))
      ->capture_default_str()
      ->group("Sampling");
  app.add_option("--sample_shift", f.job.sample_shift, "Flow-matching shift (the original always uses 3)")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str()
      ->group("Sampling");
  app.add_option("--sample_solver", "Only euler")->check(CLI::IsMember({"euler"}))->group("Sampling");
  app.add_option("--base_seed", f.base_seed, "Same seed, same video; -1: 420")->group("Sampling");
  app.add_flag("--enable_online_decode", f.online_decode,
               "Decode, encode and forget each block as it is ready (the default)")
      ->group("Sampling");
  app.add_flag("--no_online_decode", f.no_online_decode,
               "Keep all latents and decode at the end, as the original does without its flag")
      ->group("Sampling");
}

void add_machine(CLI::App& app, Flags& f) {
  app.add_option("--ckpt_dir", f.engine.checkpoint_dir, "Checkpoint folder in the original's layout")
      ->required()
      ->group("Model and machine");
  app.add_option("--gguf", f.engine.gguf_path,
                 "The video model's weights from a GGUF file, in place of the folder's safetensors\n"
                 "(a .gguf that lies there without them is found by itself)")
      ->group("Model and machine");
  app.add_option("--lora_path_dmd,--lora_path", f.engine.lora_path,
                 "liveavatar.safetensors, or the folder that holds it")
      ->group("Model and machine");
  app.add_option("--lora_alpha", f.engine.lora_alpha, "Alpha that the LoRA was trained with; the scale is alpha / rank")
      ->capture_default_str()
      ->group("Model and machine");
  app.add_option("--device", f.engine.device, "cpu, or reference (slow plain loops)")
      ->capture_default_str()
      ->group("Model and machine");
  app.add_option("--dtype", f.engine.dtype, "bf16 or f32")
      ->check(CLI::IsMember({"bf16", "f32"}))
      ->capture_default_str()
      ->group("Model and machine");
  add_weights_dtype(app, f.engine.weights_dtype)->group("Model and machine");
  add_kv_dtype(app, f.engine.kv_dtype)->group("Model and machine");
  add_int8_products(app, f.engine.int8_products)->group("Model and machine");
  app.add_flag("--fp8", f.fp8, "The original's name for --weights_dtype fp8")->group("Model and machine");
  app.add_option("--threads", f.engine.threads, "CPU threads (default: all this process may use)")
      ->check(CLI::Range(0, 1024))
      ->group("Model and machine");
  app.add_option("--memory_budget", f.engine.memory_budget_bytes,
                 "Most memory of the whole run, e.g. 8GiB (default: no limit); see `liveavatar plan`")
      ->transform(CLI::AsSizeValue(false))
      ->group("Model and machine");
  app.add_option("--dit", f.engine.packed_dit,
                 "Video model made by `liveavatar convert`, instead of the folder's; with --memory_budget\n"
                 "its layers stay on disk as far as they must")
      ->group("Model and machine");
  app.add_option("--paging_dir", f.engine.paging_dir,
                 "Folder on disk for what does not fit into --memory_budget: a packed copy of the video model, made\n"
                 "once, and keys and values of steps that are not running")
      ->group("Model and machine");
  app.add_flag("--offload_kv_cache", f.engine.offload_kv_cache,
               "Keys and values of steps that are not running always go there; without --paging_dir they are in\n"
               "host memory, where the original takes them")
      ->group("Model and machine");
  app.add_option("--schedule", f.job.schedule,
                 "wavefront: several blocks side by side, weights read less often, the same video; sequential;\n"
                 "auto: wavefront where weights are paged")
      ->check(CLI::IsMember({"auto", "sequential", "wavefront"}))
      ->capture_default_str()
      ->group("Model and machine");
  app.add_option("--report", f.report_file, "Write plan and truth as JSON: peak memory by tenant, seconds by stage")
      ->group("Model and machine");
  app.add_flag("--quiet", f.quiet, "Print errors only")->group("Model and machine");
  add_original_flags(app, f.original, "Model and machine");
  for (const Accepted& a : kAccepted) {
    std::string name = "--" + std::string(a.name);
    if (a.takes_value) {
      app.add_option(name)->group("");
    } else {
      app.add_flag(name)->group("");
    }
  }
}

void say_what_flags_come_to(const Flags& f) {
  if (f.quiet) return;
  for (const std::string& line : explain(f.original)) std::fprintf(stderr, "note: %s\n", line.c_str());
  std::string names;
  for (const Accepted& a : kAccepted) {
    if (f.app->count("--" + std::string(a.name)) > 0 && std::string(a.name) != "load_lora")
      names += " --" + std::string(a.name);
  }
  if (!names.empty()) std::fprintf(stderr, "note: accepted without effect here:%s\n", names.c_str());
}

std::string default_output(const Flags& f) {
  namespace fs = std::filesystem;
  std::string name = fs::path(f.job.image).stem().string() + "_" + fs::path(f.job.audio).stem().string() + ".mp4";
  return (fs::path(f.save_dir) / name).string();
}

// What is said at the end, and written with --report.
Status conclude(const Flags& f, const JobInfo& info, const Truth& truth) {
  if (truth.frames > 0 && !f.quiet) {
    std::fprintf(stderr, "%s: %ldx%ld, %s at %ld fps\n", f.save_file.c_str(), long(info.width), long(info.height),
                 clock_text(double(truth.frames) / double(info.fps)).c_str(), long(info.fps));
    print_truth(truth);
  }
  return f.report_file.empty() ? Status() : write_text("--report", f.report_file, to_json(truth));
}

int run(Flags& f, const Verdict& verdict) {
  StageClock clock;
  clock.begin("load");
  auto engine = Engine::load(f.engine);
  if (!engine.ok()) return report(engine.status());
  auto info = (*engine)->describe(f.job);
  if (!info.ok()) return report(info.status());
  for (const std::string& note : info->notes) {
    if (!f.quiet) std::fprintf(stderr, "note: %s\n", note.c_str());
  }
  ProgressLine line(f.quiet);
  f.job.on_progress = [&](const Progress& p) {
    clock.begin(p.stage);
    line.update(p, info->fps);
  };
  VideoRun video;
  Status status = write_video(
      **engine, f.job, *info, f.save_file, [] { return g_stop_requests == 0; }, video);
  line.finish();
  Status reported = conclude(f, *info, truth_of(verdict, **engine, clock, video.frames));
  bool stopped = status.code() == ErrorCode::kCancelled;
  if (stopped && !f.quiet) std::fprintf(stderr, "stopped; the video up to here is complete\n");
  if (stopped) return 130;
  if (status.ok()) status = reported;
  return status.ok() ? 0 : report(status);
}

int generate(Flags& f) {
  std::signal(SIGINT, on_stop_signal);
  std::signal(SIGTERM, on_stop_signal);
  if (f.base_seed >= 0) f.job.seed = static_cast<uint64_t>(f.base_seed);
  f.job.online_decode = !f.no_online_decode;
  if (f.fp8 && f.engine.weights_dtype.empty()) f.engine.weights_dtype = "fp8";
  if (f.engine.offload_kv_cache && f.engine.paging_dir.empty()) {
    if (!f.quiet) note_host_cache();
    f.engine.offload_kv_cache = false;
  }
  f.job.fit = f.fit == "original" ? Fit::kOriginal : Fit::kCover;
  if (f.save_file.empty()) f.save_file = default_output(f);
  say_what_flags_come_to(f);
  int64_t rounded = clip_frames(f.job.infer_frames);
  if (rounded != f.job.infer_frames && !f.quiet) {
    std::fprintf(stderr,
                 "note: --infer_frames %ld becomes %ld, whole blocks of 12, so that sound and picture stay together\n",
                 long(f.job.infer_frames), long(rounded));
  }
  auto verdict = judge_job(f.engine, f.job, f.quiet);
  if (!verdict.ok()) return report(verdict.status());
  Status allowed = check_original_flags(f.original, verdict->request);
  return allowed.ok() ? run(f, *verdict) : report(allowed);
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  flags->app = app.add_subcommand("generate", "Make a talking video from a portrait, a voice and a sentence");
  flags->app->footer(kFooter);
  flags->app->option_defaults()->multi_option_policy(
      CLI::MultiOptionPolicy::TakeLast);  // scripts append to a line of defaults
  add_inputs(*flags->app, *flags);
  add_sampling(*flags->app, *flags);
  add_machine(*flags->app, *flags);
  return [flags] { return generate(*flags); };
}

}  // namespace liveavatar::cli
