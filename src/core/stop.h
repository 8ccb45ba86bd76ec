// How a run is stopped: whoever loops over layers asks between two of them.
#pragma once

#include <stop_token>

#include "core/status.h"

namespace liveavatar {

// kCancelled once a stop is asked for.
inline Status check_stop(const std::stop_token& stop) {
  return stop.stop_requested() ? cancelled("stopped on request") : Status();
}

}  // namespace liveavatar
