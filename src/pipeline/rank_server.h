// A process that is a rank of its own (MPI): it loads its part of the models and makes its part of the lead's videos.
#pragma once

#include "pipeline/rank_run.h"

namespace liveavatar {

// Until the lead wants no more, or the group fails, which a failure of this rank causes. options: those of the lead's
// command line; device: this rank's.
Status serve_ranks(const EngineOptions& options, Group& group);
// This rank cannot go on. Returns what the group failed with, which may have come before.
Status fail_ranks(const Status& why, Group& group);
// Of the lead: the others end.
Status end_ranks(Group& group);

}  // namespace liveavatar
