// Files that come with the program: the mini model and its demo.
#pragma once

#include <string>

#include "core/status.h"

namespace liveavatar::cli {

// The path of `name` ("models/mini", "assets/demo/voice.wav"): beside the installed program, or in the source tree that
// it was built from.
Expected<std::string> embedded_path(const std::string& name);

}  // namespace liveavatar::cli
