// A video that is made with --resume: its snapshots, and where it goes on.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "cli/resume_flags.h"
#include "core/output_files.h"
#include "pipeline/engine.h"
#include "pipeline/snapshots.h"
#include "pipeline/video_file.h"

namespace liveavatar::cli {

class Resuming {
 public:
  // Finds where the job goes on, and says it. A video of something else is refused. claim: of the video; outlives this
  // object.
  static Expected<std::unique_ptr<Resuming>> open(const ResumeFlags& flags, const Checkpoint& checkpoint,
                                                  const ResolvedJob& job, OutputClaim& claim, bool quiet);

  // The video is there already, to its last frame: nothing is left to do.
  bool is_whole() const { return whole_; }

  // For write_video(): the file, once it is open, and what the run is told.
  Expected<std::unique_ptr<ThreadedFile>> create(const JobInfo& info, const GenerateRequest& request);
  void set_file(ThreadedFile* file);  // null: it is closed
  // The video waits for room: a snapshot that waits for the video is given up, and leaves it its room. Any thread.
  void set_stalled(bool is_stalled);
  void add_to(RunCalls& calls);
  // The run has ended: no snapshot is being written any more.
  void wait();
  // After that, for people: what they took.
  void print() const;
  // The video is whole.
  void done();
  int64_t frames_before() const { return point_ ? point_->frames : 0; }

 private:
  explicit Resuming(OutputClaim& claim) : claim_(claim) {}
  Status check_video(const JobInfo& info, bool has_folder);
  Expected<FilePosition> position(int64_t frames);

  OutputClaim& claim_;
  std::string mark_;
  bool whole_ = false;
  std::optional<ResumePoint> point_;
  std::mutex mutex_;
  ThreadedFile* file_ = nullptr;
  std::unique_ptr<Snapshots> snapshots_;  // last: its thread uses the others
};

}  // namespace liveavatar::cli
