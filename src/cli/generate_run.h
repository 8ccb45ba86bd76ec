// The videos of a `generate`: one, or those of --sample_list one after another on one engine.
#pragma once

#include <vector>

#include "cli/disk_wait.h"
#include "cli/job_files.h"
#include "cli/original_flags.h"
#include "cli/resume_flags.h"
#include "cli/stop_signal.h"
#include "liveavatar/liveavatar.h"
#include "parallel/group.h"

namespace liveavatar::cli {

struct VideoTask {
  std::string sample;  // its name in --sample_list; empty: the only one
  GenerateRequest job;
  NamedPath video;  // the file or address to write to, and the flag that decided its name
};

struct RunOptions {
  EngineOptions engine;
  OriginalFlags original;
  std::string report_file;  // of a single task
  bool quiet = false;
  ResumeFlags resume;          // of a single task
  Group* processes = nullptr;  // other ranks; null: none
  std::string whip_token;      // of the server that the video goes to; empty: none
  DiskWaitFlags wait_disk;
};

// Each returns the exit code and reports errors on stderr.
int run_task(const RunOptions& options, const VideoTask& task);
// A task that fails is named and the others go on.
int run_tasks(const RunOptions& options, const std::vector<VideoTask>& tasks);

}  // namespace liveavatar::cli
