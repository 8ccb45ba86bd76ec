// Several speakers: the files that a job names.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "liveavatar/liveavatar.h"

namespace liveavatar {

// "left.wav+right.wav" -> a path each. A '+' in a name stays where such a file exists, the longest name first.
std::vector<std::string> split_voices(const std::string& audio);

// Images of one speaker's mask, in order of time.
using MaskImages = std::vector<std::string>;

// As many as voices, else an error that says what is missing. masks: one entry a speaker, an image or a folder of
// PNGs; or one folder with subfolders 1, 2, ... (or with tracking_mask_results, which has them).
Expected<std::vector<MaskImages>> find_masks(const std::vector<std::string>& masks, size_t voices);

// The voices of a job: as split_voices, but each has a name.
Expected<std::vector<std::string>> job_voices(const GenerateRequest& job);
// The masks of a job; none for one voice, to which a mask is an error.
Expected<std::vector<MaskImages>> job_masks(const GenerateRequest& job);

}  // namespace liveavatar
