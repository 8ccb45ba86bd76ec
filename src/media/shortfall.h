// Sounds that hold less than their files say.
#pragma once

#include <string>

namespace liveavatar {

// For the user, where `read_seconds` of a sound could be read and its file promises more: it was cut off, or the
// decoder gave up on a damaged part. Empty: all is there, or the file does not say.
std::string shortfall_note(const std::string& path, double read_seconds);

}  // namespace liveavatar
