#include "cli/video_job.h"

#include <cstdio>

#include "cli/commands.h"
#include "cli/field_flags.h"
#include "cli/resuming.h"
#include "cli/stop_signal.h"
#include "core/status.h"

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

const char* there(const JobShape& shape) { return shape.beside_host_memory() ? "on the card" : "in memory"; }

// Where `others` of them are, if so many are in host memory.
std::string others_place(int64_t in_host_memory, int64_t others, const std::string& disk) {
  if (in_host_memory == 0) return disk;
  if (in_host_memory == others) return "host memory";
  return "host memory (" + std::to_string(in_host_memory) + ") and " + disk;
}

void note_paging(const JobShape& shape, const EngineOptions& options) {
  const std::string& file = options.packed_dit.empty() ? options.paging_dir : options.packed_dit;
  if (shape.paged()) {
    const int64_t others = shape.shapes.dit.layers - shape.resident();
    std::fprintf(stderr, "note: %ld of %ld layers stay %s, the others come from %s\n", long(shape.resident()),
                 long(shape.shapes.dit.layers), there(shape),
                 others_place(shape.layers_beside(), others, file).c_str());
  }
  if (shape.kv_caches_paged()) {
    const KvCacheShape caches = shape.kv_caches();
    const int64_t others = caches.count() - caches.in_memory();
    std::fprintf(stderr, "note: %ld of %ld KV caches (a step in a layer) stay %s, the others go to %s\n",
                 long(caches.in_memory()), long(caches.count()), there(shape),
                 others_place(caches.host, others, options.paging_dir).c_str());
  }
}

}  // namespace

Expected<PreparedJob> prepare_job(const Checkpoint& checkpoint, EngineOptions* options, const GenerateRequest& job,
                                  bool quiet, bool snapshots) {
  PreparedJob prepared;
  ResolveOptions model = resolve_options(checkpoint);
  model.models.snapshots = snapshots;
  LA_ASSIGN_OR_RETURN(prepared.job, resolve(model, job));
  LA_RETURN_IF_ERROR(check_video_encoder(prepared.job.info));
  LA_RETURN_IF_ERROR(hear(prepared.job, {.stop = StopSignal::token()}));
  if (options != nullptr) LA_RETURN_IF_ERROR(drop_idle_paging(*options, prepared.job));
  LA_RETURN_IF_ERROR(check_fits(prepared.job));
  const ResolvedJob& j = prepared.job;
  LA_ASSIGN_OR_RETURN(prepared.plan_report, plan_report_of(j.asked, j.shape, j.plan, j.limits));
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

Status write_video(LocalEngine& engine, ResolvedJob& job, const VideoCalls& calls, VideoRun& run) {
  std::unique_ptr<ThreadedFile> file;
  auto append = [&](const VideoChunk& block) -> Status {
    if (file == nullptr) {
      run.first_frame_at = std::chrono::steady_clock::now();
      LA_ASSIGN_OR_RETURN(file, calls.create(job.info, job.job));
      run.encoder = file->encoder();
      if (calls.resuming != nullptr) calls.resuming->set_file(file.get());
    }
    LA_RETURN_IF_ERROR(file->append(block));
    run.frames += block.frames;
    return {};
  };
  Status written;
  RunCalls run_calls;
  run_calls.on_progress = calls.on_progress;
  run_calls.stop = calls.stop;
  run_calls.rank_reports = &run.ranks;
  if (calls.resuming != nullptr) calls.resuming->add_to(run_calls);
  run_calls.on_chunk = [&](const VideoChunk& block) {
    written = append(block);
    return written.ok() && !StopSignal::requested();
  };
  Status made = engine.run(job, run_calls);
  if (calls.resuming != nullptr) calls.resuming->wait();
  Status finished = file == nullptr ? Status() : file->finish();
  if (calls.resuming != nullptr) calls.resuming->set_file(nullptr);
  LA_RETURN_IF_ERROR(written);
  if (made.code() == ErrorCode::kCancelled && !finished.ok()) return finished;
  LA_RETURN_IF_ERROR(made);
  return finished;
}

}  // namespace liveavatar::cli
