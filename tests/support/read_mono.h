// Reads a whole audio file at once; for short ones.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "media/audio.h"

namespace liveavatar {

inline Expected<std::vector<float>> read_mono(const std::string& path, int rate_hz) {
  LA_ASSIGN_OR_RETURN(std::unique_ptr<MonoSource> mono, open_mono(path, rate_hz));
  std::vector<float> all, chunk(1 << 14);
  while (true) {
    LA_ASSIGN_OR_RETURN(int64_t got, mono->read(chunk.data(), static_cast<int64_t>(chunk.size())));
    if (got == 0) return all;
    all.insert(all.end(), chunk.begin(), chunk.begin() + got);
  }
}

}  // namespace liveavatar
