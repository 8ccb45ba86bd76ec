// Cancellation: loops over layers check the stop token between two layers.
#pragma once

#include <stop_token>

#include "core/status.h"

namespace liveavatar {

// kCancelled after a stop request.
inline Status check_stop(const std::stop_token& stop) {
  return stop.stop_requested() ? cancelled("stopped on request") : Status();
}

}  // namespace liveavatar
