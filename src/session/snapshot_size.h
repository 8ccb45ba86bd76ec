#pragma once

#include <cstdint>

#include "session/job_shape.h"

namespace liveavatar {

// About what a snapshot of this job takes on disk once its first clip is done: keys and values without those that are
// written next, the decoder's caches, blocks in flight.
uint64_t snapshot_bytes(const JobShape& shape);

}  // namespace liveavatar
