#include "cli/video_job.h"

#include <cstdio>
#include <filesystem>

#include "core/status.h"
#include "session/dit_source.h"
#include "pipeline/job_plan.h"
#include "session/models.h"
#include "pipeline/video_file.h"

namespace liveavatar::cli {

namespace {

// A prompt longer than the text encoder takes is cut, and that is said. Fewer bytes than tokens cannot be too many.
Status note_cut_prompt(const EngineOptions& engine, const std::string& prompt, int64_t most_tokens) {
  if (static_cast<int64_t>(prompt.size()) < most_tokens) return {};
  LA_ASSIGN_OR_RETURN(PartPaths paths, find_parts(part_request(engine)));
  LA_ASSIGN_OR_RETURN(int64_t tokens, prompt_tokens(paths.tokenizer, prompt));
  if (tokens <= most_tokens) return {};
  std::fprintf(stderr, "note: --prompt: %ld tokens, the text encoder takes %ld: the last %ld are cut off\n",
               long(tokens), long(most_tokens), long(tokens - most_tokens));
  return {};
}

}  // namespace

Expected<Verdict> judge_job(EngineOptions& engine, const Job& job, bool quiet) {
  LA_RETURN_IF_ERROR(drop_idle_paging(engine, job));
  LA_ASSIGN_OR_RETURN(JobShape plan, plan_request(engine, job));
  LA_ASSIGN_OR_RETURN(JobShape request, settle(plan, engine.memory_budget_bytes));
  LA_RETURN_IF_ERROR(check_fits(request, engine.memory_budget_bytes));
  if (!quiet) LA_RETURN_IF_ERROR(note_cut_prompt(engine, job.prompt, request.shapes.dit.text_len));
  if (request.paged() && !quiet) {
    std::fprintf(stderr, "note: %ld of %ld layers stay in memory, the others are read from %s\n",
                 long(request.resident()), long(request.shapes.dit.layers),
                 engine.packed_dit.empty() ? engine.paging_dir.c_str() : engine.packed_dit.c_str());
  }
  if (request.rings_paged() && !quiet) {
    std::fprintf(stderr, "note: keys and values of %ld of %ld steps and layers stay in memory, the others go to %s\n",
                 long(request.resident_rings), long(request.rings().count()), engine.paging_dir.c_str());
  }
  LA_ASSIGN_OR_RETURN(Verdict verdict, judge(request, engine.memory_budget_bytes));
  if (std::string note = products_note(request, verdict.plan); !note.empty() && !quiet)
    std::fprintf(stderr, "%s\n", note.c_str());
  LA_ASSIGN_OR_RETURN(std::vector<std::string> loras, lora_notes(engine));
  for (const std::string& line : loras) {
    if (!quiet) std::fprintf(stderr, "note: %s\n", line.c_str());
  }
  return verdict;
}

Status write_video(Engine& engine, const Job& job, const JobInfo& info, OutputClaim& output,
                   const std::function<bool()>& go_on, VideoRun& run) {
  // The file is made with the first frame: until then what it held before stays.
  std::unique_ptr<VideoFile> file;
  auto append = [&](const VideoBlock& block) -> Status {
    if (file == nullptr) {
      run.first_frame_at = std::chrono::steady_clock::now();
      LA_ASSIGN_OR_RETURN(file, create_video(output, info, job));
    }
    LA_RETURN_IF_ERROR(file->append(block));
    run.frames += block.frames;
    return {};
  };
  Status written;
  Status made = engine.generate(job, [&](const VideoBlock& block) {
    written = append(block);
    return written.ok() && go_on();
  });
  Status finished = file == nullptr ? Status() : file->finish();
  LA_RETURN_IF_ERROR(written);
  LA_RETURN_IF_ERROR(made);
  return finished;
}

}  // namespace liveavatar::cli
