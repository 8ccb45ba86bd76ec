#include "cli/pipeline_bench.h"

#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "cli/run_report.h"
#include "cli/stop_signal.h"
#include "cli/video_job.h"
#include "core/json.h"
#include "core/status.h"

namespace liveavatar::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// The video's file, which is gone however the run ends.
Expected<OutputClaim> temporary_video() {
  std::error_code error;
  fs::path folder = fs::temp_directory_path(error);
  if (error) return io_error("bench: the folder for temporary files is not there; set TMPDIR to one that is");
  auto video = OutputClaim::temporary(folder.string(), "liveavatar-bench.mp4");
  if (!video.ok()) return io_error("bench, in TMPDIR: " + video.status().message());
  return video;
}

// Figures of one run, in the order in which they are shown.
using Figures = std::vector<std::pair<std::string, double>>;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Loads, makes the video, closes it. The job begins when the engine is loaded: opening image and audio counts.
Expected<Figures> run_once(const PipelineBenchOptions& o, OutputClaim& output, JobInfo& info) {
  Clock::time_point begin = Clock::now();
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(o.engine, StopSignal::token()));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint)));
  Clock::time_point loaded = Clock::now();
  StageClock stages;
  stages.begin("open");
  LA_ASSIGN_OR_RETURN(ResolvedJob job, resolve(resolve_options(engine->checkpoint()), o.job));
  LA_RETURN_IF_ERROR(hear(job, {.stop = StopSignal::token()}));
  info = job.info;
  VideoRun video;
  auto on_progress = [&](const Progress& p) { stages.begin(stage_name(p.stage)); };
  auto create = [&](const JobInfo& of, const GenerateRequest& request) { return create_video(output, of, request); };
  LA_RETURN_IF_ERROR(write_video(*engine, job, {create, on_progress, StopSignal::token()}, video));
  double job_s = seconds_between(loaded, Clock::now());
  Figures figures{{"frames_per_second", double(video.frames) / job_s},
                  {"time_to_first_frame_s", seconds_between(loaded, video.first_frame_at)},
                  {"load_s", seconds_between(begin, loaded)},
                  {"job_s", job_s}};
  for (const auto& [stage, seconds] : stages.seconds()) figures.emplace_back("seconds." + stage, seconds);
  return figures;
}

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t half = values.size() / 2;
  double median = values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back()};
}

std::string folder_name(const std::string& path) {
  fs::path p = fs::path(path).lexically_normal();
  return (p.has_filename() ? p : p.parent_path()).filename().string();
}

double mib(size_t bytes) { return double(bytes) / double(1 << 20); }

}  // namespace

Expected<PipelineBenchResult> run_pipeline_bench(PipelineBenchOptions o) {
  PipelineBenchResult result;
  {
    LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(o.engine, StopSignal::token()));
    note_checkpoint(*checkpoint, o.job, o.quiet);
    LA_ASSIGN_OR_RETURN(PreparedJob prepared, prepare_job(*checkpoint, &o.engine, o.job, o.quiet));
    result.plan_report = prepared.plan_report;
  }
  result.model = folder_name(o.engine.checkpoint_dir);
  result.repeats = o.repeats;
  LA_ASSIGN_OR_RETURN(OutputClaim output, temporary_video());
  std::vector<Figures> runs;
  for (int i = 0; i <= o.repeats; ++i) {
    LA_ASSIGN_OR_RETURN(Figures figures, run_once(o, output, result.info));
    malloc_trim(0);  // the plan is of one run: memory that libraries freed returns to the system before the next
    if (!o.quiet) {
      std::fprintf(stderr, "%s: %.1f frames/s, first frame after %.3f s\n",
                   i == 0 ? "warm-up" : ("run " + std::to_string(i) + " of " + std::to_string(o.repeats)).c_str(),
                   figures[0].second, figures[1].second);
    }
    if (i > 0) runs.push_back(std::move(figures));
  }
  for (size_t f = 0; f < runs.front().size(); ++f) {
    std::vector<double> values;
    for (const Figures& run : runs) values.push_back(run[f].second);
    result.figures.emplace_back(runs.front()[f].first, spread_of(std::move(values)));
  }
  result.file_bytes = output.bytes();
  result.measured_peak_bytes = peak_resident_bytes();
  return result;
}

void print_table(const PipelineBenchResult& r) {
  const JobShape& request = r.plan_report.request;
  std::printf("%s: %ldx%ld, %ld frames in %ld blocks, %ld steps, %s, %s decode; median of %d\n\n", r.model.c_str(),
              long(r.info.width), long(r.info.height), long(r.info.frames), long(r.info.blocks), long(request.steps),
              compute_type_name(request.dtype), request.online_decode ? "online" : "offline", r.repeats);
  std::printf("%-24s %10s %10s %10s\n", "", "median", "lowest", "highest");
  for (const auto& [key, s] : r.figures)
    std::printf("%-24s %10.3f %10.3f %10.3f\n", key.c_str(), s.median, s.lowest, s.highest);
  const Work& work = r.plan_report.work;
  std::printf("\na block: %.1f Gflop in the video model, %.1f in the VAE, %.1f MiB of weights, keys and values moved\n",
              work.dit_flops() / 1e9, work.vae_flops / 1e9, work.bytes / double(1 << 20));
  std::printf("memory: %.1f MiB at the peak, planned %.1f MiB; the file: %.1f KiB\n", mib(r.measured_peak_bytes),
              mib(r.plan_report.plan.peak_bytes), double(r.file_bytes) / 1024);
}

std::string to_json(const PipelineBenchResult& r) {
  nlohmann::ordered_json json;
  auto put = [&](const std::string& key, auto value) { json[r.model + "." + key] = value; };
  for (const auto& [key, s] : r.figures) put(key, s.median);
  for (const auto& [key, s] : r.figures) {
    put(key + ".lowest", s.lowest);
    put(key + ".highest", s.highest);
  }
  put("repeats", r.repeats);
  put("width", r.info.width);
  put("height", r.info.height);
  put("frames", r.info.frames);
  put("blocks", r.info.blocks);
  put("bytes_moved_per_block", r.plan_report.work.bytes);
  put("disk_bytes_per_block", r.plan_report.work.disk_bytes);
  put("dit_flops_per_block", r.plan_report.work.dit_flops());
  put("vae_flops_per_block", r.plan_report.work.vae_flops);
  put("file_bytes", r.file_bytes);
  put("predicted_peak_bytes", r.plan_report.plan.peak_bytes);
  put("measured_peak_bytes", r.measured_peak_bytes);
  return json_text(json, 2);
}

}  // namespace liveavatar::cli
