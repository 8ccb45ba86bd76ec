// What lies in a folder, without exceptions: the standard iterators throw when they step on.
#pragma once

#include <filesystem>
#include <vector>

namespace liveavatar {

// In the order of their names. What cannot be read is left out; a folder that cannot be read is empty.
std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder);
// The same of the folders inside it too, to this depth; links to folders are not followed.
std::vector<std::filesystem::path> entries_below(const std::filesystem::path& folder, int depth = 16);

}  // namespace liveavatar
