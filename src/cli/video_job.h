// A job into a video file, as `generate` and `bench` run it.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "core/output_files.h"
#include "liveavatar/liveavatar.h"
#include "plan/report.h"

namespace liveavatar::cli {

// The plan of the job; what cannot fit is refused here, before a weight is read. Says where layers are paged from.
Expected<Verdict> judge_job(EngineOptions& engine, const Job& job, bool quiet);

struct VideoRun {
  int64_t frames = 0;                                      // handed to the file
  std::chrono::steady_clock::time_point first_frame_at{};  // when the first of them was
};

// Writes the job's video to `output`; go_on is asked after every block. The video never keeps a half-written file that
// nobody can open: nothing made yet means no file.
Status write_video(Engine& engine, const Job& job, const JobInfo& info, OutputClaim& output,
                   const std::function<bool()>& go_on, VideoRun& run);

}  // namespace liveavatar::cli
