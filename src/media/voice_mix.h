// Several voices as one audio track.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "media/audio.h"

namespace liveavatar {

enum class MixRule {
  kFull,      // the sum, as long as the longest voice; scaled down if its peak would clip
  kOriginal,  // the Python original's: sum / N rounded to 16 bit, as long as the shortest, in the first one's rate
};

// One voice: itself. Several: each resampled and remixed to the format of the mix: the highest rate among them and two
// channels if any has more than one (kOriginal: the first voice's). kFull reads the voices once to find their peak.
Expected<std::unique_ptr<AudioStream>> open_mix(const std::vector<std::string>& paths, MixRule rule);

}  // namespace liveavatar
