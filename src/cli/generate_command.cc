// `liveavatar generate`: the original's flags under their names, and ours.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/embedded.h"
#include "cli/flags.h"
#include "cli/generate_run.h"
#include "cli/job_flags.h"
#include "cli/model_flags.h"
#include "cli/mpi_rank.h"
#include "cli/original_flags.h"
#include "cli/rank_flags.h"
#include "cli/sample_list.h"
#include "cli/script_flags.h"
#include "cli/spoken_text.h"
#include "cli/whip_flags.h"
#include "core/status.h"
#include "liveavatar/liveavatar.h"
#include "ops/make_backend.h"
#include "pipeline/resolve.h"

namespace liveavatar::cli {
namespace {

struct Flags : JobFlags {
  EngineOptions engine;
  OriginalFlags original;
  SpokenTextFlags spoken;
  std::string save_file, output, save_dir, sample_list, report_file, whip_token_file;
  ResumeFlags resume;
  DiskWaitFlags wait_disk;
  bool fp8 = false, quiet = false;
  CLI::App* app = nullptr;
};

constexpr const char* kFooter =
    "Examples:\n"
    "  liveavatar generate --ckpt_dir ckpt/Wan2.2-S2V-14B --lora_path_dmd ckpt/Live-Avatar \\\n"
    "    --image me.jpg --audio speech.wav --prompt \"A woman explains a recipe.\" --size \"688*368\"\n"
    "  liveavatar generate --ckpt_dir models/mini --image me.png --audio hello.mp3 --prompt \"hi\" --size \"128*128\"\n"
    "  liveavatar generate ... --output rtmp://live.example.org/app/KEY\n"
    "  liveavatar generate --image me.png --tts \"Hello there.\" --voice en-gb\n"
    "Dashes and underscores are the same in flag names. Exit codes: 0 done, 1 failed, 2 usage, 130 stopped.";

void add_outputs(CLI::App& app, Flags& f) {
  app.add_option("--save_file", f.save_file, "The video to write (default: <portrait>_<voice>.mp4)")
      ->group("What to make");
  app.add_option("--output", f.output,
                 "Instead of --save_file: a file; NAME.m3u8, HLS with its segments beside it; rtmp://HOST/APP/KEY,\n"
                 "rtmps://..., srt://HOST:PORT or whip+https://HOST/PATH, a server, at real time; or -, fragmented\n"
                 "MP4 to standard output")
      ->group("What to make");
  add_whip_token(app, f.whip_token_file, "What to make");
  app.add_option("--save_dir", f.save_dir, "Folder for the default name")->group("What to make");
  app.add_option(
         "--sample_list", f.sample_list,
         "Several videos, one after the other: a JSON or YAML file with prompt, image, audio and num_clip by name;\n"
         "they are written as sample_0001_<name>.mp4 into --save_dir, as in\n"
         "{\"hello\": {\"prompt\": \"a woman talks\", \"image\": \"me.png\", \"audio\": \"hi.wav\", \"num_clip\": 1}}")
      ->group("What to make");
}

void add_machine(CLI::App& app, Flags& f) {
  add_model_flags(app, f.engine, "Model and machine");
  app.add_option("--device", f.engine.device, "cpu; cuda or cuda:1, an NVIDIA card; or reference (slow plain loops)")
      ->capture_default_str()
      ->group("Model and machine");
  add_rank_flags(app, f.engine, "Several devices");
  add_dtype(app, f.engine.dtype)->group("Model and machine");
  add_weights_dtype(app, f.engine.weights_dtype)->group("Model and machine");
  add_kv_dtype(app, f.engine.kv_dtype)->group("Model and machine");
  add_activations_dtype(app, f.engine.int8_products)->group("Model and machine");
  add_tune(app, f.engine.tune)->group("Model and machine");
  app.add_flag("--fp8", f.fp8, "The original's name for --weights_dtype fp8")->group("Model and machine");
  add_threads(app, f.engine.threads)->group("Model and machine");
  add_decode_flags(app, f.engine, "Model and machine");
  add_cache_memory(app, f.engine.cache_bytes)->group("Model and machine");
  add_memory(app, "--memory_budget", f.engine.memory_budget_bytes,
             "Most memory of the whole run, e.g. 8GiB (default: no limit); see `liveavatar plan`.\n"
             "With a card: of the card (default: what is free on it)")
      ->group("Model and machine");
  add_memory(app, "--host_budget", f.engine.host_budget_bytes,
             "Most host memory beside a card (default: 7/8 of what is available)")
      ->group("Model and machine");
  app.add_option("--paging_dir", f.engine.paging_dir,
                 "Folder on disk for what does not fit into --memory_budget: a packed copy of the video model, made\n"
                 "once, and keys and values of steps that are not running")
      ->group("Model and machine");
  app.add_flag("--offload_kv_cache", f.engine.offload_kv_cache,
               "Keys and values of steps that are not running always go there; without --paging_dir they stay\n"
               "in host memory, where the original moves them")
      ->group("Model and machine");
  app.add_option("--report", f.report_file,
                 "Write plan and measurements as JSON: peak memory by category, seconds by stage")
      ->group("Model and machine");
  app.add_flag("--quiet", f.quiet, "Print errors only")->group("Model and machine");
  add_original_flags(app, f.original, "Model and machine");
  add_script_flags(app);
}

void say_what_flags_come_to(const Flags& f) {
  if (f.quiet) return;
  for (const std::string& line : explain(f.original)) std::fprintf(stderr, "note: %s\n", line.c_str());
  for (const std::string& line : explain_script_flags(*f.app)) std::fprintf(stderr, "note: %s\n", line.c_str());
}

std::string default_output(const Flags& f) {
  namespace fs = std::filesystem;
  std::string name = fs::path(f.job.image).stem().string() + "_" + fs::path(f.job.audio).stem().string() + ".mp4";
  return (fs::path(f.save_dir) / name).string();
}

// The file's, or the only one.
Expected<std::vector<VideoTask>> tasks_of(const Flags& f) {
  if (f.sample_list.empty()) {
    NamedPath video{f.save_dir.empty() ? "--save_file" : "--save_dir", default_output(f)};
    if (!f.save_file.empty()) video = {"--save_file", f.save_file};
    if (!f.output.empty()) video = {"--output", f.output};
    return std::vector<VideoTask>{{.job = f.job, .video = video}};
  }
  LA_ASSIGN_OR_RETURN(SampleList list, read_sample_list(f.sample_list));
  if (!f.quiet) {
    for (const std::string& line : list.notes) std::fprintf(stderr, "note: %s\n", one_line(line).c_str());
  }
  std::vector<VideoTask> tasks;
  for (const Sample& sample : list.samples) {
    VideoTask task{sample.name, f.job, {"--save_dir", sample_file(f.save_dir, tasks.size() + 1, sample.name)}};
    task.job.image = sample.image;
    task.job.audio = sample.audio;
    task.job.prompt = sample.prompt;
    task.job.num_clip = sample.num_clip;
    tasks.push_back(task);
  }
  return tasks;
}

// One output; and flags that the samples replace.
Status check_output_flags(const Flags& f) {
  if (!f.save_file.empty() && !f.output.empty())
    return invalid_argument("--save_file and --output both name the video; leave one out");
  if (f.sample_list.empty()) return {};
  for (const char* flag : {"--save_file", "--output", "--report", "--resume"}) {
    if (f.app->count(flag) > 0)
      return invalid_argument(std::string(flag) + " is for one video; with --sample_list give --save_dir DIR");
  }
  std::string unused;
  for (const char* flag : {"--image", "--audio", "--prompt", "--num_clip"}) {
    if (f.app->count(flag) > 0) unused += (unused.empty() ? "" : ", ") + std::string(flag);
  }
  if (!unused.empty() && !f.quiet)
    std::fprintf(stderr, "note: %s: not used; the samples of --sample_list say it\n", unused.c_str());
  return {};
}

// Only after the list was read without errors.
Status make_save_dir(const Flags& f) {
  if (f.sample_list.empty() || f.save_dir.empty()) return {};
  std::error_code error;
  std::filesystem::create_directories(f.save_dir, error);
  if (error)
    return invalid_argument("--save_dir " + f.save_dir + ": cannot be made (" + error.message() +
                            "); choose another folder");
  return {};
}

// Portrait and voice: given, of the samples, or, where a web page would ask for them, the demo's.
Status resolve_inputs(Flags& f) {
  if (!f.sample_list.empty()) return {};
  const bool demo = is_web_page_script(*f.app) && f.job.image.empty() && f.job.audio.empty() && !is_given(f.spoken);
  if (demo) {
    LA_ASSIGN_OR_RETURN(f.job.image, embedded_path("assets/demo/portrait.png"));
    LA_ASSIGN_OR_RETURN(f.job.audio, embedded_path("assets/demo/voice.wav"));
    if (f.job.prompt.empty()) f.job.prompt = "A friendly cartoon character talks to the camera.";
    if (!f.quiet) std::fprintf(stderr, "note: no --image and --audio: the demo's portrait and voice\n");
  }
  if (f.job.image.empty()) return invalid_argument("--image is required: the portrait, any image file FFmpeg reads");
  if (is_given(f.spoken)) return {};  // generate() speaks it
  if (f.job.audio.empty())
    return invalid_argument("--audio is required: the voice, any audio file FFmpeg reads; or --tts TEXT");
  return {};
}

// The model's files as they lie on this machine; without any the model that comes with the program.
Status resolve_model(Flags& f) {
  LA_RETURN_IF_ERROR(find_local_files(f.engine));
  if (names_model(f.engine)) return {};
  LA_RETURN_IF_ERROR(use_embedded_model(f.engine));
  if (!f.quiet)
    std::fprintf(stderr, "note: no --ckpt_dir: the mini model of cartoon faces that comes with the program\n");
  return {};
}

Status resolve_flags(Flags& f) {
  LA_RETURN_IF_ERROR(check_script_flags(*f.app));
  LA_RETURN_IF_ERROR(check_spoken_text(*f.app, f.spoken));
  LA_RETURN_IF_ERROR(check_wait_disk(f.wait_disk));
  LA_RETURN_IF_ERROR(resolve_inputs(f));
  LA_RETURN_IF_ERROR(check_output_flags(f));
  LA_RETURN_IF_ERROR(resolve_job(f));
  LA_RETURN_IF_ERROR(resolve_fp8(f.fp8, f.engine.weights_dtype));
  std::vector<std::string> notes;
  LA_RETURN_IF_ERROR(resolve_rank_flags(*f.app, f.engine, notes));
  for (const std::string& note : notes)
    if (!f.quiet) std::fprintf(stderr, "note: %s\n", note.c_str());
  if (f.engine.offload_kv_cache && f.engine.paging_dir.empty() && !is_card(f.engine.device)) {
    if (!f.quiet) note_host_cache();
    f.engine.offload_kv_cache = false;
  }
  say_what_flags_come_to(f);
  if (std::string note = threads_note(f.engine.threads); !note.empty() && !f.quiet)
    std::fprintf(stderr, "%s\n", note.c_str());
  int64_t rounded = clip_frames(f.job.infer_frames);
  if (rounded != f.job.infer_frames && !f.quiet) {
    std::fprintf(stderr,
                 "note: --infer_frames %ld becomes %ld, whole blocks of 12, so that audio and video stay in sync\n",
                 long(f.job.infer_frames), long(rounded));
  }
  return resolve_model(f);
}

// processes: the other ranks; null: none.
int generate(Flags& f, Group* processes) {
  StopSignal stop("the video up to here is kept");
  std::optional<StopWithRanks> stop_with_ranks;
  if (processes != nullptr) {
    processes->set_stage("load");
    stop_with_ranks.emplace(stop, *processes);
  }
  if (Status resolved = resolve_flags(f); !resolved.ok()) return report(resolved);
  SpokenAudio spoken;  // a file that lives as long as the run
  if (Status made = spoken.make(f.spoken, f.job.audio); !made.ok())
    return made.code() == ErrorCode::kCancelled ? 130 : report(made);
  auto tasks = tasks_of(f);
  if (!tasks.ok()) return report(tasks.status());
  if (Status made = make_save_dir(f); !made.ok()) return report(made);
  if (Status fits = check_resume_flags(*f.app, f.resume, tasks->front().video.path); !fits.ok()) return report(fits);
  auto token = read_whip_token(f.whip_token_file, is_whip(f.output));
  if (!token.ok()) return report(token.status());
  f.resume.one_process = processes == nullptr;
  RunOptions options{f.engine, f.original, f.report_file, f.quiet, f.resume, processes, *std::move(token), f.wait_disk};
  return f.sample_list.empty() ? run_task(options, tasks->front()) : run_tasks(options, *tasks);
}

int generate_on_ranks(Flags& f) {
  auto group = join_ranks(f.engine);
  if (!group.ok()) return report(group.status());
  if (*group == nullptr) return generate(f, nullptr);
  Group& ranks = **group;
  const bool alone = ranks.size() == 1;
  if (ranks.rank() == 0) end_lead(generate(f, alone ? nullptr : &ranks), ranks);
  f.quiet = true;
  run_rank(resolve_flags(f), f.engine, ranks);
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  flags->app = app.add_subcommand("generate", "Make a talking video from a portrait, a voice and a sentence");
  flags->app->footer(kFooter);
  flags->app->option_defaults()->multi_option_policy(
      CLI::MultiOptionPolicy::TakeLast);  // scripts append to a line of defaults
  add_job_flags(*flags->app, *flags);
  add_spoken_text(*flags->app, flags->spoken);
  add_outputs(*flags->app, *flags);
  add_resume_flags(*flags->app, flags->resume, "What to make");
  add_wait_disk(*flags->app, flags->wait_disk, "What to make");
  add_machine(*flags->app, *flags);
  return [flags] { return generate_on_ranks(*flags); };
}

}  // namespace liveavatar::cli
