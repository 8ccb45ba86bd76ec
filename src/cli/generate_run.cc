#include "cli/generate_run.h"

#include <cstdio>
#include <optional>
#include <set>
#include <utility>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/mpi_rank.h"
#include "cli/progress.h"
#include "cli/resuming.h"
#include "cli/run_report.h"
#include "cli/video_job.h"
#include "cli/video_output.h"
#include "cli/whip_flags.h"
#include "core/status.h"
#include "core/text.h"
#include "media/stream_address.h"
#include "media/stream_output.h"
#include "session/speakers.h"

namespace liveavatar::cli {
namespace {

// before: frames of the video that an earlier run made.
void print_video(const VideoTask& task, const JobInfo& info, const RunReport& run_report, int64_t before) {
  std::fprintf(stderr, "%s: %ldx%ld, %s at %ld fps, %s\n", output_name(task.video.path).c_str(), long(info.width),
               long(info.height), clock_text(double(before + run_report.frames) / double(info.fps)).c_str(),
               long(info.fps), run_report.video_encoder.c_str());
}

// The summary at the end. A video is claimed only where all that was handed to it is there.
void print_result(const VideoTask& task, const PreparedJob& prepared, const RunReport& run_report,
                  const std::optional<int64_t>& before) {
  const JobShape& shape = prepared.plan_report.request;
  if (before) print_video(task, prepared.job.info, run_report, *before);
  print_run_report(run_report, !run_report.ranks.empty() && !shape.one_host && !shape.processes);
}

// Where a task writes. claims: of the video, if it is a file, and of the report, if one is asked for.
struct TaskOutputs {
  std::unique_ptr<DiskWait> wait;  // of the claims
  std::vector<OutputClaim> claims;
  std::unique_ptr<StreamOutput> stream;     // of the video; null: it is a file, or goes by WHIP
  std::shared_ptr<serve::WhipServer> whip;  // null: it does not
  std::unique_ptr<Resuming> resuming;       // null: without --resume

  void wait_for_room(const RunOptions& options) {
    wait = std::make_unique<DiskWait>(options.wait_disk, options.quiet);
    for (OutputClaim& claim : claims) claim.set_room(wait->room());
  }
  OutputClaim* report_claim() { return claims.size() > (stream || whip ? 0u : 1u) ? &claims.back() : nullptr; }
  Expected<std::unique_ptr<ThreadedFile>> create(const JobInfo& info, const GenerateRequest& request) {
    if (resuming != nullptr) return resuming->create(info, request);
    if (whip) return create_whip_video(whip, info, request, StopSignal::token());
    return stream ? create_video(*stream, info, request) : create_video(claims.front(), info, request);
  }
};

void note_retry(int64_t block, ProgressLine& line, bool quiet) {
  line.finish();
  if (!quiet)
    std::fprintf(stderr,
                 "note: block %ld: its values were not finite and it is computed again; where that helps, this machine "
                 "computes wrongly at times: test its memory and cooling\n",
                 long(block));
}

std::string stopped_text(const Status& status, int64_t frames, const DiskRoom& room) {
  if (room.was_stopped()) return "stopped while the disk was full: " + one_line(status.message());
  return frames > 0 ? "stopped; the video up to here is complete" : "stopped; no frame was made yet";
}

Status make_video(LocalEngine& engine, const VideoTask& task, PreparedJob& prepared, bool quiet, StageClock& clock,
                  TaskOutputs& outputs) {
  const JobInfo& info = prepared.job.info;
  for (const std::string& note : info.notes) {
    if (!quiet) std::fprintf(stderr, "note: %s\n", in_flags(note).c_str());
  }
  ProgressLine line(quiet);
  int64_t retried = -1;
  auto on_progress = [&](const Progress& p) {
    clock.begin(stage_name(p.stage));
    if (std::exchange(retried, p.retried_block) != p.retried_block) note_retry(p.retried_block, line, quiet);
    outputs.wait->set_frames(p.frames_done, p.frames);
    line.update(p, info.fps, StopSignal::stood_still_s() + outputs.wait->waited_s());
  };
  VideoRun video;
  auto create = [&](const JobInfo& of, const GenerateRequest& request) { return outputs.create(of, request); };
  Status status =
      write_video(engine, prepared.job, {create, on_progress, StopSignal::token(), outputs.resuming.get()}, video);
  line.finish();
  const bool gave_up_room = outputs.wait->room().was_stopped();
  if (gave_up_room && !status.ok()) status = cancelled(status.message());
  RunReport run_report = run_report_of(prepared.plan_report, engine, clock, video.frames);
  run_report.video_encoder = video.encoder;
  for (const RankReport& rank : video.ranks)
    run_report.ranks.push_back({rank.place.host, rank.place.device, rank.part, rank.planned_peak_bytes, rank.peak_bytes,
                                rank.sample_s, rank.waited_s, rank.link});
  std::optional<int64_t> before;
  const bool is_kept = status.ok() || (status.code() == ErrorCode::kCancelled && !gave_up_room);
  if (is_kept) before = outputs.resuming == nullptr ? 0 : outputs.resuming->frames_before();
  if (run_report.frames > 0 && !quiet) print_result(task, prepared, run_report, before);
  if (outputs.resuming != nullptr && !quiet) outputs.resuming->print();
  OutputClaim* report_claim = outputs.report_claim();
  Status reported = report_claim == nullptr ? Status() : report_claim->write(to_json(run_report));
  if (report_claim != nullptr && reported.ok()) reported = report_claim->check_name();
  if (status.code() == ErrorCode::kCancelled && !quiet)
    std::fprintf(stderr, "%s\n", stopped_text(status, video.frames, outputs.wait->room()).c_str());
  if (status.ok() && outputs.resuming != nullptr) outputs.resuming->done();
  // One line of error: a full disk takes neither video nor report.
  const bool only_stopped = status.code() == ErrorCode::kCancelled;
  if (only_stopped && !reported.ok()) report(reported);
  return status.ok() ? reported : status;
}

Expected<PreparedJob> check_task(const Checkpoint& checkpoint, EngineOptions& engine, const RunOptions& options,
                                 const VideoTask& task) {
  LA_ASSIGN_OR_RETURN(PreparedJob prepared,
                      prepare_job(checkpoint, &engine, task.job, options.quiet, options.resume.resume));
  LA_RETURN_IF_ERROR(check_original_flags(options.original, prepared.plan_report.request));
  return prepared;
}

// What all tasks read.
std::vector<NamedPath> inputs_of(const RunOptions& options, const std::vector<VideoTask>& tasks) {
  std::vector<NamedPath> inputs;
  std::set<std::string> known;  // samples share portraits and voices
  auto add = [&](const char* flag, const std::string& path) {
    if (known.insert(path).second) add_input(inputs, flag, path);
  };
  for (const VideoTask& task : tasks) {
    add("--image", task.job.image);
    for (const std::string& voice : split_voices(task.job.audio)) add("--audio", voice);
    for (const std::string& mask : task.job.masks) add("--mask", mask);
    add("--pose_video", task.job.pose_video);
  }
  add_engine_inputs(inputs, options.engine);
  return inputs;
}

// Before anything is read: each file can be written, and none is an input.
Expected<std::vector<OutputClaim>> claim_task(const RunOptions& options, const VideoTask& task,
                                              const std::vector<NamedPath>& inputs) {
  const bool is_file = !is_stream(task.video.path);
  LA_RETURN_IF_ERROR(is_file ? check_video_path(task.video) : check_stream(task.video));
  std::vector<NamedPath> outputs;
  if (is_file) outputs.push_back(task.video);
  if (!options.report_file.empty()) outputs.push_back({"--report", options.report_file});
  const std::string& folder = options.engine.paging_dir;
  if (!folder.empty()) LA_RETURN_IF_ERROR(check_writable_folder({"--paging_dir", folder}));
  return claim_outputs(inputs, outputs);
}

// The inputs that each task's output is compared with. Empty if one check of all tasks finds no conflict: a check for
// each task would be quadratic in the length of the list.
std::vector<NamedPath> inputs_to_check(const RunOptions& options, const std::vector<VideoTask>& tasks) {
  std::vector<NamedPath> inputs = inputs_of(options, tasks), outputs;
  for (const VideoTask& task : tasks) outputs.push_back(task.video);
  if (check_inputs_stay(inputs, outputs).ok()) inputs.clear();
  return inputs;
}

Status named(const VideoTask& task, const Status& status) {
  return {status.code(), "sample \"" + task.sample + "\": " + status.message()};
}

// Claims the outputs and releases them: a list may be longer than the limit of open files.
Status check_outputs_of(const RunOptions& options, const VideoTask& task, const std::vector<NamedPath>& inputs) {
  LA_ASSIGN_OR_RETURN(std::vector<OutputClaim> claims, claim_task(options, task, inputs));
  StopSignal::Cleaning cleaning(claims);
  return {};
}

Status stopped_before(const VideoTask& task) { return cancelled("stopped before sample \"" + task.sample + "\""); }

// Which tasks can run; the others are named. Layers stay in memory only if every task's fit. An error: stopped.
// Their files are closed again: a list may be longer than the limit of open files.
Expected<std::vector<const VideoTask*>> check_tasks(const RunOptions& options, Checkpoint& checkpoint,
                                                    const std::vector<VideoTask>& tasks,
                                                    std::vector<std::string>& failed) {
  std::vector<const VideoTask*> ready;
  bool page_weights = false;
  const std::vector<NamedPath> inputs = inputs_to_check(options, tasks);
  for (const VideoTask& task : tasks) {
    if (StopSignal::requested()) return stopped_before(tasks.front());
    auto refuse = [&](const Status& status) {
      failed.push_back(task.sample);
      report(named(task, status));
    };
    if (Status outputs = check_outputs_of(options, task, inputs); !outputs.ok()) {
      refuse(outputs);
      continue;
    }
    EngineOptions engine = checkpoint.options;
    auto prepared = check_task(checkpoint, engine, options, task);
    if (prepared.status().code() == ErrorCode::kCancelled) return stopped_before(tasks.front());
    if (!prepared.ok()) {
      refuse(prepared.status());
      continue;
    }
    page_weights = page_weights || engine.page_weights;
    ready.push_back(&task);
  }
  checkpoint.options.page_weights = page_weights;
  return ready;
}

// One of several; its output was compared with the inputs before.
Status run_ready(LocalEngine& engine, const RunOptions& options, const VideoTask& task) {
  TaskOutputs outputs;
  LA_ASSIGN_OR_RETURN(outputs.claims, claim_task(options, task, {}));
  outputs.wait_for_room(options);
  StopSignal::Cleaning cleaning(outputs.claims);
  const Checkpoint& checkpoint = engine.checkpoint();
  LA_ASSIGN_OR_RETURN(PreparedJob prepared, prepare_job(checkpoint, nullptr, task.job, true));
  StageClock clock;
  return make_video(engine, task, prepared, options.quiet, clock, outputs);
}

Status already_whole(Resuming& resuming, const VideoTask& task, bool quiet) {
  resuming.done();
  if (!quiet)
    std::fprintf(stderr, "%s: is whole already; leave out --resume to make it anew\n",
                 output_name(task.video.path).c_str());
  return {};
}

Status run_one(const RunOptions& options, const VideoTask& task, TaskOutputs& outputs) {
  // Before all that takes time: a wrong address is known in a moment.
  if (is_whip(task.video.path)) {
    LA_ASSIGN_OR_RETURN(outputs.whip,
                        try_whip_server(task.video, options.whip_token, options.quiet, StopSignal::token()));
  } else {
    LA_ASSIGN_OR_RETURN(outputs.stream, open_stream(task.video, options.quiet, StopSignal::token()));
  }
  LA_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(options.engine, StopSignal::token()));
  note_checkpoint(*checkpoint, task.job, options.quiet);
  LA_ASSIGN_OR_RETURN(PreparedJob prepared, check_task(*checkpoint, checkpoint->options, options, task));
  if (options.resume.resume) {
    LA_ASSIGN_OR_RETURN(outputs.resuming, Resuming::open(options.resume, *checkpoint, prepared.job,
                                                         outputs.claims.front(), options.quiet));
    outputs.wait->set_resuming(outputs.resuming.get());
    if (outputs.resuming->is_whole()) return already_whole(*outputs.resuming, task, options.quiet);
  }
  StageClock clock;
  clock.begin("load");
  LA_ASSIGN_OR_RETURN(std::unique_ptr<LocalEngine> engine, LocalEngine::load(std::move(checkpoint), options.processes));
  if (StopSignal::requested()) return cancelled("stopped; no frame was made yet");
  return make_video(*engine, task, prepared, options.quiet, clock, outputs);
}

}  // namespace

int run_task(const RunOptions& options, const VideoTask& task) {
  auto claims = claim_task(options, task, inputs_of(options, {task}));
  if (!claims.ok()) return report(claims.status());
  TaskOutputs outputs;
  outputs.claims = *std::move(claims);
  outputs.wait_for_room(options);
  StopSignal::Cleaning cleaning(outputs.claims);
  Status status = run_one(options, task, outputs);
  if (options.processes != nullptr) status = end_of_run(status, *options.processes);
  if (status.code() == ErrorCode::kCancelled) return 130;
  return status.ok() ? 0 : report(status);
}

int run_tasks(const RunOptions& options, const std::vector<VideoTask>& tasks) {
  auto ended = [&](const Status& why) {
    return report(options.processes == nullptr ? why : end_of_run(why, *options.processes));
  };
  auto checkpoint = open_checkpoint(options.engine, StopSignal::token());
  if (!checkpoint.ok()) return ended(checkpoint.status());
  note_checkpoint(**checkpoint, tasks.front().job, options.quiet);
  std::vector<std::string> failed;
  auto ready = check_tasks(options, **checkpoint, tasks, failed);
  if (!ready.ok()) return ended(ready.status());
  std::unique_ptr<LocalEngine> engine;
  if (!ready->empty()) {
    auto loaded = LocalEngine::load(*std::move(checkpoint), options.processes);
    if (!loaded.ok()) return ended(loaded.status());
    engine = std::move(*loaded);
  }
  for (size_t i = 0; i < ready->size(); ++i) {
    const VideoTask& task = *(*ready)[i];
    if (StopSignal::token().stop_requested()) return ended(stopped_before(task));
    if (!options.quiet)
      std::fprintf(stderr, "sample \"%s\" (%zu of %zu)\n", one_line(task.sample).c_str(), i + 1, ready->size());
    Status status = run_ready(*engine, options, task);
    if (options.processes != nullptr) status = end_of_run(status, *options.processes);
    if (status.code() == ErrorCode::kCancelled) return 130;
    if (status.ok()) continue;
    failed.push_back(task.sample);
    const int code = report(named(task, status));
    if (options.processes != nullptr && !options.processes->status().ok()) return code;  // for good
  }
  if (failed.empty()) return 0;
  std::fprintf(stderr, "liveavatar: %zu of %zu samples failed: %s\n", failed.size(), tasks.size(),
               one_line(join(failed)).c_str());
  return 1;
}

}  // namespace liveavatar::cli
