// What the lead tells the other ranks of a video, as a text (JSON). They have the model's files and the options of the
// same command line; portrait, voice and prompt are the lead's alone.
#pragma once

#include <string>

#include "session/block_link.h"
#include "session/denoiser.h"
#include "session/job_shape.h"
#include "session/placement.h"

namespace liveavatar {

// A rank's part of a job's snapshots: a file of its own beside each of the lead's.
struct RankSnapshotJob {
  std::string folder;   // empty: none are written
  SnapshotMark resume;  // where the job goes on; id 0: at its beginning
};

struct RankJob {
  JobShape shape;  // the lead's; of the models what has to be the same on all ranks
  Sampling sampling;
  Placement placement;
  RankSnapshotJob snapshots;
};

std::string to_text(const RankJob& job);
// models: of the rank that reads it. kInvalidArgument where they are not the lead's. The shape is that of this rank
// (rank_shape), with what its own options say of memory and threads.
Expected<RankJob> parse_rank_job(const std::string& text, const JobShape& models, int rank);

}  // namespace liveavatar
