#include "core/folder.h"

#include <algorithm>

namespace liveavatar {

namespace fs = std::filesystem;

std::vector<fs::path> folder_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> entries_below(const fs::path& folder, int depth) {
  std::vector<fs::path> all;
  for (const fs::path& entry : folder_entries(folder)) {
    all.push_back(entry);
    std::error_code ignored;
    bool inside = depth > 0 && fs::symlink_status(entry, ignored).type() == fs::file_type::directory;
    if (!inside) continue;
    std::vector<fs::path> below = entries_below(entry, depth - 1);
    all.insert(all.end(), below.begin(), below.end());
  }
  return all;
}

}  // namespace liveavatar
