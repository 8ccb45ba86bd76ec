#include "core/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>

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

bool may_exist(const fs::path& path) {
  std::error_code ignored;
  return fs::status(path, ignored).type() != fs::file_type::not_found;
}

namespace {
struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
}  // namespace

// By hand: std::filesystem's iterator ends the process where there is no memory for a name.
Expected<std::vector<fs::path>> list_folder(const fs::path& folder) {
  auto failed = [&folder](int error) {
    return io_error(folder.string() + ": the folder cannot be read " +
                    errno_text(error, "see who may read it, or choose another"));
  };
  const std::unique_ptr<DIR, CloseFolder> open(::opendir(folder.c_str()));
  if (open == nullptr) return failed(errno);
  std::vector<fs::path> entries;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(open.get());
    if (entry == nullptr && errno != 0) return failed(errno);
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") entries.push_back(folder / name);
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
