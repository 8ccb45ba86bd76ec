// A source that stops reading when it is asked to.
#pragma once

#include <stop_token>

#include "weights/tensor_source.h"

namespace liveavatar {

// Reads as `source` does until a stop is asked for; then every read is kCancelled.
TensorSourcePtr stoppable(TensorSourcePtr source, std::stop_token stop);

}  // namespace liveavatar
