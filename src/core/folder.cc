#include "core/folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/errno_text.h"

namespace liveavatar {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& file) { return file.has_parent_path() ? file.parent_path() : fs::path("."); }

bool sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  errno = error;
  return synced;
}

Expected<std::vector<fs::path>> list_folder(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    entries.push_back(entry->path());
  if (error) {
    return io_error(folder.string() + ": the folder cannot be read " +
                    errno_text(error.value(), "see who may read it, or choose another"));
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

std::vector<fs::path> folder_entries(const fs::path& folder) {
  auto entries = list_folder(folder);
  return entries.ok() ? *std::move(entries) : std::vector<fs::path>();
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
