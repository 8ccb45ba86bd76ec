// What a card has of libraries and what is kept of their use, in lines for people.
#pragma once

#include <string>
#include <vector>

#include "backend/cuda/runtime.h"

namespace liveavatar::cuda {

// For each kind of op the library or why there is none, and a row for each choice that `choice_file` keeps for this
// card.
std::vector<std::string> describe_choices(Runtime& runtime, const std::string& choice_file);

}  // namespace liveavatar::cuda
