// Flag spelling: the original writes --num_clip, people write --num-clip; both are the same flag here.
#pragma once

#include <string>
#include <vector>

namespace liveavatar::cli {

// Long flags with dashes inside become underscores ("--num-clip=3" -> "--num_clip=3"); values stay untouched.
std::vector<std::string> normalise_flags(int argc, char** argv);

// The known word that is most like `word`, or "" when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace liveavatar::cli
