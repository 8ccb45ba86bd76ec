// A job into a video file, as `generate` and `bench` run it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "core/output_files.h"
#include "pipeline/engine.h"
#include "pipeline/video_file.h"
#include "plan/report.h"

namespace liveavatar::cli {

class Resuming;

// A job that fits, and its plan.
struct PreparedJob {
  ResolvedJob job;
  PlanReport plan_report;
};
// What cannot fit is refused here, before a weight is read. Says where layers are paged from. options: of models that
// are not loaded yet; page_weights is cleared if the weights fit. Null: they are loaded.
Expected<PreparedJob> prepare_job(const Checkpoint& checkpoint, EngineOptions* options, const GenerateRequest& job,
                                  bool quiet, bool snapshots = false);
// A line each for people: the adapters, and the size of a job that names none.
void note_checkpoint(const Checkpoint& checkpoint, const GenerateRequest& job, bool quiet);

struct VideoRun {
  std::vector<RankReport> ranks;                           // of several; the lead first
  int64_t frames = 0;                                      // handed to the file
  std::string encoder;                                     // of the file
  std::chrono::steady_clock::time_point first_frame_at{};  // when the first of them was
};

struct VideoCalls {
  // Makes the file, or begins the stream, with the first frame: until then what the file held before stays.
  std::function<Expected<std::unique_ptr<ThreadedFile>>(const JobInfo&, const GenerateRequest&)> create;
  std::function<void(const Progress&)> on_progress;
  std::stop_token stop;
  Resuming* resuming = nullptr;  // snapshots of the run, and where it goes on; null: none
};
// A file that cannot be opened never stays: without a frame there is no file.
Status write_video(LocalEngine& engine, ResolvedJob& job, const VideoCalls& calls, VideoRun& run);

}  // namespace liveavatar::cli
