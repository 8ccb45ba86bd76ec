// The snapshots of a job: when they are due, what they are of, and what is on the disk (docs/resume.md).
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/open_folder.h"
#include "media/file_position.h"
#include "session/denoiser.h"
#include "session/rank_job.h"
#include "session/snapshot_file.h"

namespace liveavatar {

// All that the bits of a job's video follow from, by name. Equal in a run and in the one that goes on with it.
using JobIdentity = std::map<std::string, std::string>;

struct SnapshotOptions {
  std::string folder;        // made where it is missing; of this job alone
  double every_s = 60;       // at least between two, and as much more as keeps them to kMostShare of the time; the
                             // first ones come sooner
  int64_t every_blocks = 0;  // instead: after so many blocks of video, whatever they cost; 0: by the time
  int keep = 2;
  bool one_host = true;  // the ranks of the job are on this machine
};

// Where a job goes on.
struct ResumePoint {
  std::unique_ptr<SnapshotReader> state;
  Denoiser::Moment moment;
  int64_t frames = 0;  // that are out
  FilePosition file;
  SnapshotMark ranks;  // of the files of other ranks; id 0: there are none
};

// The newest whole snapshot of the folder; nothing: there is none. notes: of damaged ones that are passed over.
// kInvalidArgument: it is of another job; the line says what differs.
Expected<std::optional<ResumePoint>> find_resume_point(const std::string& folder, const JobIdentity& job,
                                                       std::vector<std::string>& notes);

// By its ending.
bool is_snapshot(const std::string& path);
// What `info` prints of a snapshot, a line each.
Expected<std::vector<std::string>> describe_snapshot(const std::string& path);

// due(), begin(), writer(): the thread that samples; finish(), give_up(): whoever writes the last part. One snapshot at
// a time: by the time, none is due meanwhile; by blocks, the next one waits.
class Snapshots {
 public:
  static constexpr double kMostShare = 0.03;
  struct Calls {
    // Where the video's file stands at so many frames, once they are on the disk. Called by a thread of its own.
    std::function<Expected<FilePosition>(int64_t frames)> file;
    std::function<void(const std::string& note)> say;  // any thread
  };
  // frames: where the run begins, behind a snapshot.
  static Expected<std::unique_ptr<Snapshots>> open(const SnapshotOptions& options, const JobIdentity& job,
                                                   int64_t frames, Calls calls);
  ~Snapshots();  // waits for the one that is being written

  bool due(int64_t frames) const;
  // Null: it cannot be made; that was said.
  SnapshotWriter* begin(const Denoiser::Moment& moment, int64_t frames);
  // Since begin(), for the other ranks' parts.
  SnapshotMark mark() const { return {moment_.blocks.first + moment_.begun, id_, oldest_}; }
  RankSnapshotJob rank_job(const ResumePoint* resume) const;
  SnapshotWriter& writer() { return *writer_; }
  // All parts are there: what is left is done beside the run. others: waits until the other ranks have theirs; ranks:
  // how many those are.
  void finish(int ranks = 0, std::function<Status()> others = {});
  void give_up(const Status& why);
  // The run ends: begin() waits for no part that will not come. Any thread.
  void cancel();
  // After the run: waits for the one that is being finished; one that lacks a part is given up.
  void end();
  // After end(). The job is done: no snapshot is needed any more.
  void remove();

  // After end(). Those that were written, and how long the run waited for them.
  int64_t count() const { return count_; }
  double seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  Snapshots(const SnapshotOptions& options, const JobIdentity& job, Calls calls)
      : options_(options), job_(job), calls_(std::move(calls)) {}
  Status commit(int ranks, const std::function<Status()>& others);
  void wait();
  void set_idle();
  void prune(size_t keep) const;
  void prune_ranks(const std::vector<std::filesystem::path>& kept) const;

  SnapshotOptions options_;
  OpenFolder folder_;  // which may be moved while the job runs
  JobIdentity job_;
  Calls calls_;
  std::minstd_rand random_{std::random_device{}()};  // tells the parts of one snapshot from those of another
  std::unique_ptr<SnapshotWriter> writer_;
  Denoiser::Moment moment_;
  int64_t frames_ = 0, last_frames_ = 0, id_ = 0, oldest_ = 0;
  Clock::time_point began_, opened_ = Clock::now(), last_ = opened_;
  double wait_s_ = 0;  // between the last one and the next
  double seconds_ = 0;
  std::atomic<int64_t> count_ = 0;
  std::atomic<bool> busy_ = false, failing_ = false, cancelled_ = false;
  std::mutex mutex_;  // of committing_, which one thread begins and another ends
  std::thread committing_;
};

}  // namespace liveavatar
