// A source whose reads can be cancelled.
#pragma once

#include <stop_token>

#include "weights/tensor_source.h"

namespace liveavatar {

// Reads from `source` until a stop is requested. Then every read is kCancelled.
TensorSourcePtr stoppable(TensorSourcePtr source, std::stop_token stop);

}  // namespace liveavatar
