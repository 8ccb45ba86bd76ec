// What tells a job from another: a snapshot is of one job.
#pragma once

#include "pipeline/resolve.h"
#include "pipeline/snapshots.h"

namespace liveavatar {

// Of a job that was heard. Reads its portrait, masks and pose video to their ends. Names and times of files do not
// count, so that it may go on on another machine.
Expected<JobIdentity> identity_of(const Checkpoint& checkpoint, const ResolvedJob& job);

// One short text for all of it: the mark of its video (VideoWriterOptions::mark).
std::string mark_of(const JobIdentity& job);

}  // namespace liveavatar
