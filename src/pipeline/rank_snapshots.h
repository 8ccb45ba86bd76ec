// Snapshots of a video on several ranks: each rank has a file of its own, and the lead's makes them one, all or none
// (docs/resume.md).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "parallel/group.h"
#include "session/rank_job.h"
#include "session/snapshot_file.h"

namespace liveavatar {

// In the folder of snapshots: what the rank has of the snapshot before the lead's block.
std::string rank_snapshot_path(const std::string& folder, int64_t block, int rank);
// Whether the file is a rank's part, and of which block of the lead; -1: it is none.
int64_t block_of_rank_snapshot(const std::string& path);

// A rank's part that was written, and where the rank was.
struct RankSnapshot {
  std::unique_ptr<SnapshotReader> state;
  Denoiser::Moment moment;
};
// kCorrupt: damaged, or of another snapshot than that of the mark.
Expected<RankSnapshot> open_rank_snapshot(const std::string& folder, const SnapshotMark& mark, int rank);

// On a rank that is not the lead: writes its parts, and tells the lead of each. One thread.
class RankSnapshots {
 public:
  using Save = std::function<Status(SnapshotWriter& to)>;

  RankSnapshots(Group& group, const RankSnapshotJob& job) : group_(group), job_(job) {}
  ~RankSnapshots() { end(); }
  RankSnapshots(const RankSnapshots&) = delete;
  RankSnapshots& operator=(const RankSnapshots&) = delete;

  // Between two ticks. save is called at once; the file comes to the disk beside the run. What fails is told to the
  // lead alone.
  void keep(const SnapshotMark& mark, const Denoiser::Moment& moment, const Save& save);
  // The video ends before the moment of the mark.
  void refuse(const SnapshotMark& mark);
  // Waits until the lead was told of all.
  void end();

 private:
  Expected<std::unique_ptr<SnapshotWriter>> write(const SnapshotMark& mark, const Denoiser::Moment& moment,
                                                  const Save& save) const;
  void answer_beside(const SnapshotMark& mark, std::function<Status()> finish);
  void prune(const SnapshotMark& mark) const;

  Group& group_;
  RankSnapshotJob job_;
  std::thread finishing_;
};

// The lead's end of these answers. A thread of its own takes them, so that nobody waits for the lead. Thread-safe.
class SnapshotAnswers {
 public:
  // The group outlives end().
  explicit SnapshotAnswers(Group& group) : group_(group) {}
  ~SnapshotAnswers() { end(); }
  SnapshotAnswers(const SnapshotAnswers&) = delete;
  SnapshotAnswers& operator=(const SnapshotAnswers&) = delete;

  // Before the mark goes out: every rank will answer.
  void expect(int64_t id);
  // Until all have: ok, or why one has no part.
  Status wait(int64_t id);
  // All that are expected are taken, or the group has failed.
  void end();

 private:
  void take_all();
  Status take(int64_t id);

  Group& group_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int64_t> expected_;
  std::map<int64_t, Status> answers_;
  bool ending_ = false;
  std::thread taking_;
};

}  // namespace liveavatar
