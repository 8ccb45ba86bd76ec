// What lies in a folder, without exceptions: the standard iterators throw when they step on.
#pragma once

#include <filesystem>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// Of a file; "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& file);

// In the order of their names. Error: one that cannot be read.
Expected<std::vector<std::filesystem::path>> list_folder(const std::filesystem::path& folder);
// The same where a folder that cannot be read is as good as an empty one.
std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder);
// The same of the folders inside it too, to this depth; links to folders are not followed.
std::vector<std::filesystem::path> entries_below(const std::filesystem::path& folder, int depth = 16);

}  // namespace liveavatar
