// What two ranks of one process pay to exchange tokens for heads.
#pragma once

#include "plan/rank_simulation.h"
#include "session/job_shape.h"

namespace liveavatar {

// Bytes of the queries, keys, values and outputs of a layer's self-attention.
double exchanged_bytes(const JobShape& shape);

// From a layer's exchanges (HeadExchange) between two ranks that come to them together, at two sizes.
Link measure_exchange(const JobShape& shape);

}  // namespace liveavatar
