#include "cli/video_job.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/stop_signal.h"
#include "core/status.h"
#include "pipeline/video_file.h"

namespace liveavatar::cli {

namespace {

// A prompt longer than the text encoder takes is cut, and that is said. Fewer bytes than tokens cannot be too many.
Status note_cut_prompt(const Checkpoint& checkpoint, const std::string& prompt) {
  const int64_t most = checkpoint.shapes.dit.text_len;
  if (static_cast<int64_t>(prompt.size()) < most) return {};
  LA_ASSIGN_OR_RETURN(PromptIds ids, prompt_ids(checkpoint, prompt));
  if (ids.uncut <= most) return {};
  std::fprintf(stderr, "note: --prompt: %ld tokens, the text encoder takes %ld: the last %ld are cut off\n",
               long(ids.uncut), long(most), long(ids.uncut - most));
  return {};
}

void note_paging(const JobShape& shape, const EngineOptions& options) {
  if (shape.paged()) {
    std::fprintf(stderr, "note: %ld of %ld layers stay in memory, the others are read from %s\n",
                 long(shape.resident()), long(shape.shapes.dit.layers),
                 options.packed_dit.empty() ? options.paging_dir.c_str() : options.packed_dit.c_str());
  }
  if (shape.kv_caches_paged()) {
    std::fprintf(stderr, "note: %ld of %ld KV caches (a step in a layer) stay in memory, the others go to %s\n",
                 long(shape.resident_kv_caches), long(shape.kv_caches().count()), options.paging_dir.c_str());
  }
}

}  // namespace

Expected<PreparedJob> prepare_job(const Checkpoint& checkpoint, EngineOptions* options, const GenerateRequest& job,
                                  bool quiet) {
  PreparedJob prepared;
  LA_ASSIGN_OR_RETURN(prepared.job, resolve(resolve_options(checkpoint), job));
  LA_RETURN_IF_ERROR(check_video_encoder(prepared.job.info));
  LA_RETURN_IF_ERROR(hear(prepared.job, {.stop = StopSignal::token()}));
  if (options != nullptr) LA_RETURN_IF_ERROR(drop_idle_paging(*options, prepared.job));
  LA_RETURN_IF_ERROR(check_fits(prepared.job));
  const ResolvedJob& j = prepared.job;
  LA_ASSIGN_OR_RETURN(prepared.plan_report, plan_report_of(j.asked, j.shape, j.plan, j.budget_bytes));
  if (quiet) return prepared;
  LA_RETURN_IF_ERROR(note_cut_prompt(checkpoint, job.prompt));
  note_paging(j.shape, checkpoint.options);
  if (std::string note = products_note(j.shape, j.plan); !note.empty())
    std::fprintf(stderr, "%s\n", in_flags(note).c_str());
  return prepared;
}

void note_checkpoint(const Checkpoint& checkpoint, const GenerateRequest& job, bool quiet) {
  if (quiet) return;
  if (job.size.empty())
    std::fprintf(stderr, "note: no --size: \"%s\", the model's own\n", one_line(checkpoint.video_size()).c_str());
  for (const std::string& line : checkpoint.notes) std::fprintf(stderr, "note: %s\n", in_flags(line).c_str());
}

Status write_video(LocalEngine& engine, ResolvedJob& job, OutputClaim& output, const VideoCalls& calls, VideoRun& run) {
  // The file is made with the first frame: until then what it held before stays.
  std::unique_ptr<ThreadedFile> file;
  auto append = [&](const VideoChunk& block) -> Status {
    if (file == nullptr) {
      run.first_frame_at = std::chrono::steady_clock::now();
      LA_ASSIGN_OR_RETURN(file, create_video(output, job.info, job.job));
      run.encoder = file->encoder();
    }
    LA_RETURN_IF_ERROR(file->append(block));
    run.frames += block.frames;
    return {};
  };
  Status written;
  RunCalls run_calls;
  run_calls.on_progress = calls.on_progress;
  run_calls.stop = calls.stop;
  run_calls.on_chunk = [&](const VideoChunk& block) {
    written = append(block);
    return written.ok() && !StopSignal::requested();
  };
  Status made = engine.run(job, run_calls);
  Status finished = file == nullptr ? Status() : file->finish();
  LA_RETURN_IF_ERROR(written);
  if (made.code() == ErrorCode::kCancelled && !finished.ok()) return finished;
  LA_RETURN_IF_ERROR(made);
  return finished;
}

}  // namespace liveavatar::cli
