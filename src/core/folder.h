// Lists folders without exceptions: the standard iterators throw when they advance.
#pragma once

#include <filesystem>
#include <vector>

#include "core/status.h"

namespace liveavatar {

// The folder of a file. "." for a bare name.
std::filesystem::path folder_of(const std::filesystem::path& file);

// Names in the folder are on the disk, not only with the system. false: errno.
bool sync_folder(const std::filesystem::path& folder);

// False only where the system says that nothing has this name. What cannot be looked at counts, so that whoever reads
// it says why: taken for absent, a config.json that the disk does not give would be replaced by what is usual.
bool may_exist(const std::filesystem::path& path);

// Entries sorted by name. Error: the folder cannot be read.
Expected<std::vector<std::filesystem::path>> list_folder(const std::filesystem::path& folder);
// The same, but a folder that cannot be read counts as empty.
std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder);
// The same with all subfolders to this depth. Links to folders are not followed.
std::vector<std::filesystem::path> entries_below(const std::filesystem::path& folder, int depth = 16);

}  // namespace liveavatar
