// Audio files with less audio than they state.
#pragma once

#include <string>

namespace liveavatar {

// AudioFile::shortfall() of a file that is opened for this alone (media/audio_file.h); empty where it cannot be.
std::string shortfall_note(const std::string& path, double read_seconds);

}  // namespace liveavatar
