// Changes that make a job fit, the cheapest first.
#pragma once

#include <string>
#include <vector>

#include "plan/resolve_shape.h"

namespace liveavatar {

struct Suggestion {
  std::string settings;   // "`weights_dtype` int8 + `size` \"64*64\"": public fields and what they become
  std::string costs;      // what is lost
  size_t peak_bytes = 0;  // with it
};

// Changes with which the job keeps its limits; each was planned. The last one is larger limits. Empty if the job fits.
Expected<std::vector<Suggestion>> find_suggestions(const JobShape& request, const MemoryLimits& limits);

std::string mib_text(size_t bytes);  // "1234MiB", rounded up

}  // namespace liveavatar
